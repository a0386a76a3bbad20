import type { Parts } from "./parts.ts"

/** Elements whose own mean is taken before they join others. */
const group = 16

/**
 * `center`, the mean of a row less `origin`, and `squares` = Σ (element − mean)², both in one walk: of sixteen elements at a
 * time, read once, and joined with what is known of those before (T. Chan, G. Golub and R. LeVeque, 1979). Where `origin` is
 * an element of the row, the mean of n is at most √n deviations away from it, and a relative error of √n roundings the worst
 * that can happen. `element` is WGSL of the unit, of `width` elements, at a place; a block has `blockUnits` of them.
 */
export const momentParts = (
  element: (place: string) => string,
  { width, blockUnits }: { readonly width: 1 | 4; readonly blockUnits: number },
): Parts => {
  const places = Array.from({ length: group / width }, (_, g) => g)
  const components = width === 4 ? [".x", ".y", ".z", ".w"] : [""]
  const isIn = (g: number) => `k + ${g}u < units`
  /** Each unit as `v`; one beyond the row's end as 0. */
  const units = (of: (v: string) => string, statement: (component: string) => string): string =>
    places
      .map((g) => {
        const v = g === 0 ? of("v0") : `select(T(), ${of(`v${g}`)}, ${isIn(g)})`
        return `{ let v = ${v}; ${components.map((c) => statement(`v${c}`)).join(" ")} }`
      })
      .join("\n      ")
  const join: Parts["join"] = (part, into = (name) => name) => {
    const [center, squares, count] = [into("center"), into("squares"), into("count")]
    return `{
      let both = ${count} + ${part("count")};
      let share = ${part("count")} / both;
      let shift = ${part("center")} - ${center};
      ${squares} = fma(shift * (${count} * share), shift, ${squares} + ${part("squares")});
      ${center} = fma(shift, share, ${center});
      ${count} = both;
    }`
  }
  return {
    values: [
      { name: "center", start: "0.0" },
      { name: "squares", start: "0.0" },
      { name: "count", start: "0.0" },
    ],
    inBlock: `var part_center = 0.0; var part_squares = 0.0; var part_count = 0.0;
    for (var k = block; k < min(block + ${blockUnits}u, units); k += ${places.length}u) {
      ${places.map((g) => `let v${g} = ${element(g === 0 ? "k" : `min(k + ${g}u, units - 1u)`)} - origin;`).join("\n      ")}
      let own_count = f32(min(${places.length}u, units - k) * ${width}u);
      var own_center = 0.0;
      ${units(
        (v) => v,
        (v) => `own_center += ${v};`,
      )}
      own_center /= own_count;
      var own_squares = 0.0;
      ${units(
        (v) => `${v} - own_center`,
        (d) => `own_squares = fma(${d}, ${d}, own_squares);`,
      )}
      ${join(
        (name) => `own_${name}`,
        (name) => `part_${name}`,
      )}
    }`,
    join,
  }
}
