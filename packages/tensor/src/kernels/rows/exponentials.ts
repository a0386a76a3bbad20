import type { Parts } from "./parts.ts"

/** Elements that share one rescaling of a running sum. */
const group = 16

/**
 * `top`, the largest element of a row, `total` = Σ exp(element − top) and, if asked, `energy` = Σ exp(element − top) ·
 * (element − top), all in one walk (online softmax: M. Milakov and N. Gimelshein, 2018). Within a block of `blockUnits` units
 * of `width` elements, sixteen elements at a time are rescaled to the largest so far and added in order; then the blocks.
 * `element` is WGSL of the unit at a place.
 */
export const exponentialParts = (
  element: (place: string) => string,
  {
    width,
    blockUnits,
    energy = false,
  }: { readonly width: 1 | 4; readonly blockUnits: number; readonly energy?: boolean },
): Parts => {
  const places = Array.from({ length: group / width }, (_, g) => g)
  const components = width === 4 ? [".x", ".y", ".z", ".w"] : [""]
  const elements = places.flatMap((g) => components.map((c) => `v${g}${c}`))
  const add = (g: number): string => {
    const e = `select(exp(z), T(), k + ${g}u >= units)`
    const sums = components.map((c, i) => {
      const total = g === 0 && i === 0 ? `fma(part_total, shrink, e${c})` : `part_total + e${c}`
      return `part_total = ${total};${energy ? ` part_energy = fma(e${c}, z${c}, part_energy);` : ""}`
    })
    return `{ let z = v${g} - part_top; let e = ${g === 0 ? "exp(z)" : e}; ${sums.join(" ")} }`
  }
  /** Σ e · (element − old top), for a new top. */
  const moved = (top: string, total: string, own: string) => `fma(max(${top} - highest, lowest), ${total}, ${own})`
  return {
    values: [
      { name: "top", start: "lowest" },
      { name: "total", start: "0.0" },
      ...(energy ? [{ name: "energy", start: "0.0" }] : []),
    ],
    inBlock: `var part_top = lowest; var part_total = 0.0; ${energy ? "var part_energy = 0.0;" : ""}
    for (var k = block; k < min(block + ${blockUnits}u, units); k += ${places.length}u) {
      ${places.map((g) => `let v${g} = ${element(g === 0 ? "k" : `min(k + ${g}u, units - 1u)`)};`).join("\n      ")}
      let highest = max(part_top, ${elements.reduce((largest, each) => `max(${largest}, ${each})`)});
      let shrink = exp(part_top - highest);
      ${energy ? `part_energy = ${moved("part_top", "part_total", "part_energy")} * shrink;` : ""}
      part_top = highest;
      ${places.map(add).join("\n      ")}
    }`,
    join: (part, into = (name) => name) => {
      const [top, total, energySum] = [into("top"), into("total"), into("energy")]
      return `{
      let highest = max(${top}, ${part("top")});
      let own = exp(${top} - highest); let other = exp(${part("top")} - highest);
      ${energy ? `${energySum} = fma(${moved(top, total, energySum)}, own, ${moved(part("top"), part("total"), part("energy"))} * other);` : ""}
      ${total} = fma(${part("total")}, other, ${total} * own);
      ${top} = highest;
    }`
    },
  }
}
