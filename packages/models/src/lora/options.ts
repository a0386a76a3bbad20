/** Low-rank adapters (E. Hu et al., "LoRA", 2021), by PEFT's names in camelCase. */
export interface LoraOptions {
  /** Rank: columns of B, rows of A. */
  readonly r: number
  /** The product B·A counts alpha / r times. */
  readonly alpha: number
  /**
   * Probability with which an element of the input does not reach the adapter in a training pass. Above 0, what is
   * trained is not what was sampled: the ratio of a policy to itself is then no longer 1.
   */
  readonly dropout?: number
  /**
   * Modules by their names in the checkpoint: `"all-linear"` (all but the heads), a regular expression for the whole
   * name, or a list of names or of the ends of names, such as `["q_proj", "v_proj"]`. Default `"all-linear"`.
   */
  readonly targetModules?: string | ReadonlyArray<string>
  /** Counts B·A alpha / √r times (D. Kalajdzievski, "A Rank Stabilization Scaling Factor", 2023). */
  readonly useRslora?: boolean
  /** Learns the length of each row of the weight apart from its direction (S. Liu et al., "DoRA", 2024). */
  readonly useDora?: boolean
  /** Key of the random numbers that A starts from. Default 0. */
  readonly seed?: number
}

/** Options without gaps, and the factor on B·A that follows from them. */
export type ResolvedLora = Required<LoraOptions> & { readonly scale: number }

/** @throws RangeError naming the option */
export const resolveLora = (options: LoraOptions): ResolvedLora => {
  const { r, alpha, dropout = 0, targetModules = "all-linear", useRslora = false, useDora = false, seed = 0 } = options
  if (!Number.isInteger(r) || r < 1) throw new RangeError(`lora: r must be a whole number of at least 1, not ${r}`)
  if (!Number.isFinite(alpha)) throw new RangeError(`lora: alpha must be a number, not ${alpha}`)
  if (!(dropout >= 0 && dropout < 1)) throw new RangeError(`lora: dropout must be in [0, 1), not ${dropout}`)
  const scale = alpha / (useRslora ? Math.sqrt(r) : r)
  return { r, alpha, dropout, targetModules, useRslora, useDora, seed, scale }
}
