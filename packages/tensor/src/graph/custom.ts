import { sameShape, showShape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import type { GradientRule } from "./node.ts"
import type { Tensor } from "./tensor.ts"

/**
 * `fn` with a gradient of its own: `rule` gets the gradient of the output, the output and the inputs, and returns the
 * gradient of each input, or `undefined` where there is none. What `fn` reads beside its inputs has no gradient.
 */
export const customGradient =
  <Inputs extends readonly Tensor[]>(fn: (...inputs: Inputs) => Tensor, rule: GradientRule) =>
  (...inputs: Inputs): Tensor => {
    const output = fn(...inputs)
    const gradient: GradientRule = (context) => {
      const gradients = rule(context)
      if (gradients.length !== inputs.length)
        throw new ShapeError(
          "customGradient",
          `the rule gave ${gradients.length} gradients for ${inputs.length} inputs`,
        )
      gradients.forEach((each, i) => {
        if (each && !sameShape(each.shape, inputs[i]!.shape))
          throw new ShapeError(
            "customGradient",
            `gradient ${i} is ${showShape(each.shape)}, its input ${showShape(inputs[i]!.shape)}`,
          )
      })
      return gradients
    }
    return output.derive({ kind: "reshape", gradient }, [output, ...inputs], output.shape)
  }
