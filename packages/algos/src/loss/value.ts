import type { LossProgram } from "@rlpt/core"

/**
 * The clipped value loss of PPO per token, as in TRL and verl:
 * ½·max((v − return)², (clip(v, v_old ± cliprangeValue) − return)²).
 *
 * Fields: `returns` and `oldValues`, both per completion token.
 */
export const valueLoss = ({ cliprangeValue }: { readonly cliprangeValue: number }): LossProgram => ({
  name: "value",
  outputs: ["values"],
  fields: ["oldValues", "returns"],
  evaluate: ({ oldValues, returns, values }) => {
    const moved = values!.sub(oldValues!).clamp(-cliprangeValue, cliprangeValue).add(oldValues!)
    const unclippedError = values!.sub(returns!).square()
    const clippedError = moved.sub(returns!).square()
    return {
      perToken: unclippedError.maximum(clippedError).mul(0.5),
      metrics: { value_clip_ratio: { perToken: clippedError.greater(unclippedError), reduce: "mean" } },
    }
  },
})
