/**
 * A house of several machines, as far as the network can tell: each has a network namespace, an address and a name of
 * its own, and a cable (veth) to a router between them. A cable can be cut. A slow one is a tunnel through
 * this process instead, which keeps every packet for a while and loses some: not every kernel has netem.
 */
import { join } from "@std/path";

const RELAYED = "relayed";

/** What building a house takes. */
const NEEDED = [
  "ip link add name one type veth peer name two",
  "ip tuntap add dev tunnel mode tun",
  "mount -t tmpfs none /mnt",
  "command -v socat",
];

/** A cable that is worse than loopback. */
export interface SlowCable {
  delayMs: number;
  /** Of every packet, each way. */
  loss: number;
  /** Of the choice which. */
  seed: number;
}

/** The machines. */
export interface House extends AsyncDisposable {
  /** What starts a program on a machine. */
  on(machine: string): [string, ...string[]];
  /** Nothing comes or goes any more, and nobody is told. */
  cut(machine: string): Promise<void>;
  /** As before. */
  mend(machine: string): Promise<void>;
  /** Packets that went through slow cables, and those of them that were lost. */
  readonly packets: { sent: number; lost: number };
}

/** Whether this machine can do it, tunnels included. */
export const canNetwork: boolean = await new Deno.Command("unshare", {
  args: ["--map-root-user", "--mount", "--net", "sh", "-c", NEEDED.join(" && ")],
  stdout: "null",
  stderr: "null",
}).output().then(({ success }) => success, () => false);

/** Builds one. Machines are reached by their names from each other. */
export async function buildHouse(machines: Readonly<Record<string, SlowCable | "cable">>): Promise<House> {
  const folder = await Deno.makeTempDir({ prefix: "rbee-net-" });
  const names = Object.keys(machines);
  const address = (name: string, host: number) => `10.77.${names.indexOf(name)}.${host}`;
  const packets = { sent: 0, lost: 0 };
  const all = new AsyncDisposableStack();
  all.defer(() => Deno.remove(folder, { recursive: true }));
  await Deno.writeTextFile(
    join(folder, "hosts"),
    ["127.0.0.1 localhost", ...names.map((name) => `${address(name, 2)} ${name}`)].join("\n"),
  );
  for (const [name, cable] of Object.entries(machines)) {
    if (cable !== "cable") all.use(relay(folder, { name, cable, packets }));
  }
  const setUp = names.map((name) => {
    const inside = (command: string) => `nsenter --net=/proc/$pid/ns/net ${command}`;
    const cable = machines[name] !== "cable"
      ? [
        `${
          inside(tunnel(folder, { end: `${name}.inner`, address: address(name, 2) }))
        } & children="$children $!"`,
        `${tunnel(folder, { end: `${name}.outer`, address: address(name, 1) })} & children="$children $!"`,
        `until ${inside(`ip -o addr | grep -q ${address(name, 2)}`)}; do sleep 0.02; done`,
        `until ip -o addr | grep -q ${address(name, 1)}; do sleep 0.02; done`,
      ]
      : [
        `ip link add name ${name} type veth peer name house netns $pid`,
        `ip addr add ${address(name, 1)}/24 dev ${name}`,
        `ip link set dev ${name} up`,
        inside(`ip addr add ${address(name, 2)}/24 dev house`),
        inside("ip link set dev house up"),
      ];
    return [
      `unshare --net sleep infinity & pid=$!; children="$children $pid"`,
      `until [ "$(readlink /proc/$pid/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.02; done`,
      ...cable,
      inside("ip link set dev lo up"),
      inside(`ip route add default via ${address(name, 1)}`),
      `echo ${name} $pid`,
    ].join("\n");
  });
  const script = `
    set -e
    children=
    trap 'kill $children' EXIT
    mount --bind ${folder}/hosts /etc/hosts
    echo 1 > /proc/sys/net/ipv4/ip_forward
    ${setUp.join("\n")}
    echo router $$
    read -r _`;
  const router = new Deno.Command("unshare", {
    args: ["--map-root-user", "--mount", "--net", "sh", "-c", script],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  all.defer(async () => {
    // The script ends with its input, and everything in it with the script.
    await router.stdin.close();
    await router.status;
    await Promise.all([reading, complaints]);
  });
  const complaints = new Response(router.stderr).text();
  const pids = new Map<string, string>();
  const ready = Promise.withResolvers<void>();
  const reading = (async () => {
    let text = "";
    for await (const part of router.stdout.pipeThrough(new TextDecoderStream())) {
      text += part;
      for (const [, name, pid] of text.matchAll(/^(\S+) (\d+)$/gm)) pids.set(name, pid);
      if (pids.has("router")) ready.resolve();
    }
    ready.reject(new Error("The house fell down."));
  })();
  const on = (machine: string): [string, ...string[]] => {
    const pid = pids.get(machine)!;
    const mounts = pids.get("router")!;
    const spaces = [
      `--user=/proc/${mounts}/ns/user`,
      `--mount=/proc/${mounts}/ns/mnt`,
      `--net=/proc/${pid}/ns/net`,
    ];
    return ["nsenter", ...spaces, "--preserve-credentials"];
  };
  const route = async (verb: "add" | "del", machine: string) => {
    const [program, ...inRouter] = on("router");
    const args = [...inRouter, "ip", "route", verb, "blackhole", `${address(machine, 2)}/32`];
    const { success, stderr } = await new Deno.Command(program, { args }).output();
    if (!success) throw new Error(new TextDecoder().decode(stderr));
  };
  try {
    await ready.promise;
  } catch (error) {
    await all.disposeAsync();
    throw new Error(await complaints, { cause: error });
  }
  return {
    on,
    packets,
    cut: (machine) => route("add", machine),
    mend: (machine) => route("del", machine),
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

/** A network device whose packets go to the relay. */
function tunnel(folder: string, { end, address }: { end: string; address: string }): string {
  const [here, there] = [`UNIX-RECV:${folder}/${end}`, `UNIX-SENDTO:${folder}/${end}.${RELAYED}`];
  return `socat TUN:${address}/24,up,iff-no-pi '${here}!!${there}'`;
}

/** Hands packets from one end of a cable to the other, late, and not all of them. */
function relay(
  folder: string,
  { name, cable, packets }: { name: string; cable: SlowCable; packets: House["packets"] },
): Disposable {
  const path = (end: string) => join(folder, `${name}.${end}`);
  const open = (end: string) =>
    Deno.listenDatagram({ transport: "unixpacket", path: `${path(end)}.${RELAYED}` });
  // One that waits for packets can't send any meanwhile.
  const [inner, outer, sender] = [open("inner"), open("outer"), open("sender")];
  const timers = new Set<ReturnType<typeof setTimeout>>();
  let state = cable.seed;
  // The minimal standard generator of Park and Miller.
  const random = () => (state = state * 48271 % 2147483647) / 2147483647;
  const pass = async (from: Deno.DatagramConn, end: string) => {
    for await (const [packet] of from) {
      packets.sent++;
      if (random() < cable.loss) {
        packets.lost++;
        continue;
      }
      const copy = packet.slice();
      const timer = setTimeout(() => {
        timers.delete(timer);
        // The other end may not be there yet, or any more: a packet lost.
        sender.send(copy, { transport: "unixpacket", path: path(end) }).catch(() => {});
      }, cable.delayMs);
      timers.add(timer);
    }
  };
  const passing = [pass(inner, "outer"), pass(outer, "inner")];
  for (const each of passing) each.catch(() => {});
  return {
    [Symbol.dispose]() {
      timers.forEach(clearTimeout);
      inner.close();
      outer.close();
      sender.close();
    },
  };
}
