import { dropout, linear, type LinearOptions, type Tensor } from "@rlpt/tensor"
import type { Parameters } from "../parameters.ts"
import type { LoraAdapter, LoraModule } from "./adapter.ts"

/** Key (u32 [2]) by which each module drops elements of its input, by the module's name. */
export type DropoutKeys = ReadonlyMap<string, Tensor>

/**
 * The modules of a projection whose parameters are among `parameters`: none where the adapter is off.
 */
export const activeModules = (
  adapter: LoraAdapter | undefined,
  projection: string,
  parameters: Parameters,
): ReadonlyArray<LoraModule> => (adapter?.modules.get(projection) ?? []).filter(({ a }) => parameters[a] !== undefined)

/**
 * y = x · weightᵀ (+ bias) (+ residual), with what the adapted `modules` of the projection add to their rows:
 * scale · B · (A · x); with DoRA, y before the bias is then scaled row by row to the length that was learned. With
 * `dropoutKeys`, elements of x are dropped on their way to A.
 *
 * x: [N, K], weight: [M, K], result: [N, M]. Each element depends on its own row alone, whatever the others: prefill,
 * decoding and training agree bit for bit. The scale is applied between the two products, where no driver can contract
 * it with an addition.
 */
export const adaptedLinear = (
  x: Tensor,
  weight: Tensor,
  { bias, residual }: LinearOptions,
  modules: ReadonlyArray<LoraModule>,
  { scale, useDora, dropout: rate }: LoraAdapter["options"],
  parameters: Parameters,
  dropoutKeys?: DropoutKeys,
): Tensor => {
  const adapt = (y: Tensor): Tensor =>
    modules.reduce((sum, { name, a, b, begin, end, height }) => {
      const key = dropoutKeys?.get(name)
      const low = linear(key ? dropout(x, key, rate) : x, parameters[a]!).mul(scale)
      const whole = end - begin === height
      if (whole) return linear(low, parameters[b]!, { residual: sum })
      return sum.add(
        linear(low, parameters[b]!).pad([
          [0, 0],
          [begin, height - end],
        ]),
      )
    }, y)
  if (!useDora) return adapt(linear(x, weight, { ...(bias && { bias }), ...(residual && { residual }) }))
  const scaled = adapt(linear(x, weight)).mul(doraGains(weight, modules, scale, parameters))
  const shifted = bias ? scaled.add(bias) : scaled
  return residual ? shifted.add(residual) : shifted
}

/**
 * weight + scale · B · A, [M, K]; the rows of modules that are not adapted stay.
 */
export const adaptedWeight = (
  weight: Tensor,
  modules: ReadonlyArray<LoraModule>,
  { scale, useDora }: LoraAdapter["options"],
  parameters: Parameters,
): Tensor => {
  const sum = modules.reduce(
    (total, module) =>
      total.add(
        product(module, scale, parameters).pad([
          [module.begin, module.height - module.end],
          [0, 0],
        ]),
      ),
    weight,
  )
  return useDora ? sum.mul(doraGains(weight, modules, scale, parameters).unsqueeze(1)) : sum
}

/** scale · B · A of one module. */
const product = ({ a, b }: LoraModule, scale: number, parameters: Parameters): Tensor =>
  parameters[b]!.mul(scale).matmul(parameters[a]!)

/** What DoRA multiplies each row by, [M]: its magnitude over its length, which counts as a constant in the gradient. */
const doraGains = (weight: Tensor, modules: ReadonlyArray<LoraModule>, scale: number, parameters: Parameters): Tensor =>
  modules
    .map((module) => {
      const { begin, end, height, magnitude } = module
      const rows = weight.slice([begin, end]).add(product(module, scale, parameters))
      return parameters[magnitude]!.div(rowLengths(rows).stopGradient()).pad([[begin, height - end]], 1)
    })
    .reduce((gains, more) => gains.mul(more))

/** ‖row‖₂ of a matrix, [M]. */
export const rowLengths = (matrix: Tensor): Tensor => matrix.square().sum(1).sqrt()
