import { concat, mean, variance } from "../statistics.ts"

/** Added to the variance, as in TRL and verl. */
const VARIANCE_EPSILON = 1e-8

/**
 * Scales the numbers of all `sequences` together to unit variance (Bessel-corrected) and, unless `shiftMean` is false,
 * to mean 0. A single number has no variance and is only shifted.
 */
export const whiten = (
  sequences: ReadonlyArray<Float64Array>,
  { shiftMean = true }: { readonly shiftMean?: boolean } = {},
): ReadonlyArray<Float64Array> => {
  const all = concat(sequences)
  const centre = mean(all)
  const scale = all.length < 2 ? 1 : 1 / Math.sqrt(variance(all) + VARIANCE_EPSILON)
  return sequences.map((values) => values.map((value) => (value - centre) * scale + (shiftMean ? 0 : centre)))
}
