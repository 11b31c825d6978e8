import { assertEquals } from "@std/assert";
import { bytes, downloadLine, loadingLine } from "./progress.ts";

Deno.test("a download looks as the contract shows it", () => {
  assertEquals(
    downloadLine({ bytes_downloaded: 4e6, bytes_total: 5e6, speed_mbps: 45.2, eta_seconds: 3 }),
    "Downloading model... [████████████████████----] 80% (4.0 MB / 5.0 MB) @ 45.2 MB/s ETA 0:03",
  );
});

Deno.test("loading looks as the contract shows it", () => {
  assertEquals(
    loadingLine({ layers_loaded: 24, layers_total: 32 }),
    "Loading model to VRAM... [██████████████████------] 75% (24/32 layers)",
  );
});

Deno.test("what is not known yet is left out, and nothing divides by zero", () => {
  assertEquals(
    downloadLine({ bytes_downloaded: 0, bytes_total: 0, speed_mbps: 0 }),
    "Downloading model... [------------------------] 0% (0.0 MB / 0.0 MB) @ 0.0 MB/s",
  );
});

Deno.test("100 % is shown only when everything is there", () => {
  const line = downloadLine({
    bytes_downloaded: 4_999_999,
    bytes_total: 5e6,
    speed_mbps: 1,
    eta_seconds: 0.2,
  });
  assertEquals(line.includes("99%"), true);
  assertEquals(line.endsWith("ETA 0:01"), true);
  assertEquals(loadingLine({ layers_loaded: 32, layers_total: 32 }).includes("100%"), true);
});

Deno.test("large sizes and long times change their unit", () => {
  assertEquals(bytes(4_370_000_000), "4.4 GB");
  const line = downloadLine({ bytes_downloaded: 1, bytes_total: 4e9, speed_mbps: 0.9, eta_seconds: 3_723 });
  assertEquals(line.endsWith("ETA 1:02:03"), true);
});
