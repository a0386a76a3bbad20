import { sameShape, showShape, type HostArray, type Shape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { Tensor } from "../graph/tensor.ts"

/** A parameter on the host. */
export interface HostTensor {
  readonly shape: Shape
  readonly data: HostArray
}

/** Parameters by dotted name, as in PyTorch: `layers.0.weight`. */
export type StateDict = Readonly<Record<string, HostTensor>>

/**
 * A part of a network: it holds parameters, and other modules, in its public fields (or arrays of them). Every tensor there
 * is a parameter; keep what is none in a private (`#`) field.
 */
export abstract class Module<Inputs extends readonly unknown[] = [x: Tensor], Output = Tensor> {
  abstract forward(...inputs: Inputs): Output

  /** All parameters by dotted name, in the order of the fields. */
  get parameters(): Readonly<Record<string, Tensor>> {
    return Object.fromEntries(named(this, ""))
  }

  /** Number of elements of all parameters. */
  get parameterCount(): number {
    return Object.values(this.parameters).reduce((sum, { size }) => sum + size, 0)
  }

  /** Copies all parameters to the host. */
  async stateDict(): Promise<StateDict> {
    const entries = Object.entries(this.parameters)
    const [first] = entries
    if (!first) return {}
    const arrays = await first[1].gpu.readAll(entries.map(([, tensor]) => tensor))
    return Object.fromEntries(entries.map(([name, { shape }], i) => [name, { shape, data: arrays[i]! }]))
  }

  /**
   * Overwrites all parameters, where they lie: optimisers and recorded programs see the new values. Throws a `ShapeError`
   * that lists every name that is missing, left over or of another shape, and changes nothing then.
   */
  loadStateDict(state: StateDict): void {
    const { parameters } = this
    const problems = [
      ...Object.keys(parameters).flatMap((name) => (name in state ? [] : [`${name} is missing`])),
      ...Object.entries(state).flatMap(([name, { shape }]) => {
        const own = parameters[name]
        if (!own) return [`there is no parameter ${name}`]
        return sameShape(own.shape, shape) ? [] : [`${name} is ${showShape(own.shape)}, not ${showShape(shape)}`]
      }),
    ]
    if (problems.length > 0) throw new ShapeError("loadStateDict", problems.join("; "))
    for (const [name, tensor] of Object.entries(parameters)) tensor.gpu.write(tensor, state[name]!.data)
  }

  /** Gives the memory of all parameters back. */
  dispose(): void {
    for (const tensor of Object.values(this.parameters)) tensor.dispose()
  }
}

/** Parameters in `value` and in what it holds. */
const named = (value: unknown, name: string): readonly (readonly [string, Tensor])[] => {
  if (value instanceof Tensor) return [[name, value]]
  const holds = value instanceof Module || Array.isArray(value)
  if (!holds) return []
  return Object.entries(value).flatMap(([key, held]) => named(held, name === "" ? key : `${name}.${key}`))
}
