// Every kind of damaged or hostile GGUF we know of, each made from a good file by one change.

import type { Damage } from "./gguf_damage.ts";
import { encodeGguf } from "./gguf_format.ts";
import { containerDamages } from "./gguf_hostile_container.ts";
import { modelDamages } from "./gguf_hostile_model.ts";
import { llamaGgufParts, TINIEST_LLAMA } from "./gguf_writer.ts";

/** A file that claims to be a model. */
export interface HostileGguf {
  /** What is wrong, in snake_case: usable as a file name. */
  readonly name: string;
  readonly bytes: Uint8Array;
  /**
   * True: no working model is in there, so a loader must answer with an error. False: odd, but a loader may
   * make something of it; whatever it does, it must not crash.
   */
  readonly unusable: boolean;
}

/** All of them, built one at a time; none is larger than a few hundred kilobytes. */
export function* hostileGgufs(): Generator<HostileGguf> {
  const good = llamaGgufParts(TINIEST_LLAMA);
  for (const { unusable, odd } of [containerDamages, modelDamages]) {
    for (const [name, damage] of Object.entries(unusable)) yield build(name, damage, true);
    for (const [name, damage] of Object.entries(odd)) yield build(name, damage, false);
  }

  function build(name: string, damage: Damage, isUnusable: boolean): HostileGguf {
    const made = damage(good);
    return { name, bytes: made instanceof Uint8Array ? made : encodeGguf(made), unusable: isUnusable };
  }
}
