import {
  computeType,
  dtypeOf,
  isQuantized,
  sameShape,
  showShape,
  type DType,
  type HostArray,
  type Shape,
} from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { Tensor } from "../graph/tensor.ts"

/** A parameter on the host. */
export interface HostTensor {
  readonly shape: Shape
  readonly data: HostArray
  /** How the device stores it: of halves, `data` is f32. {@link Module.loadStateDict} does not need it. */
  readonly dtype?: DType
}

/** Parameters by dotted name, as in PyTorch: `layers.0.weight`. */
export type StateDict = Readonly<Record<string, HostTensor>>

/**
 * A part of a network: it holds parameters, and other modules, in its public fields (or arrays of them). Every tensor there
 * is a parameter; keep what is none in a private (`#`) field.
 */
export abstract class Module<Inputs extends readonly unknown[] = [x: Tensor], Output = Tensor> {
  abstract forward(...inputs: Inputs): Output

  /** All parameters by dotted name, in the order of the fields; one that several fields share has its first name only. */
  get parameters(): Readonly<Record<string, Tensor>> {
    const all = named(this)
    return Object.fromEntries(all.filter(([, tensor], i) => all.findIndex(([, other]) => same(tensor, other)) === i))
  }

  /** Number of elements of all parameters. */
  get parameterCount(): number {
    return Object.values(this.parameters).reduce((sum, { size }) => sum + size, 0)
  }

  /** Copies all parameters to the host: as in PyTorch, one that several fields share is there by each of its names. */
  async stateDict(): Promise<StateDict> {
    const entries = named(this)
    const [first] = entries
    if (!first) return {}
    const arrays = await first[1].gpu.readAll(entries.map(([, tensor]) => tensor))
    return Object.fromEntries(entries.map(([name, { shape, dtype }], i) => [name, { shape, dtype, data: arrays[i]! }]))
  }

  /**
   * Overwrites all parameters, where they lie: optimisers and recorded programs see the new values. Throws a `ShapeError`
   * that lists every name that is missing, left over, or of another shape, length or dtype, and changes nothing then.
   */
  loadStateDict(state: StateDict): void {
    const parameters = new Map(named(this))
    const problems = [
      ...[...parameters.keys()].flatMap((name) => (Object.hasOwn(state, name) ? [] : [`${name} is missing`])),
      ...Object.entries(state).flatMap(([name, value]) => {
        const own = parameters.get(name)
        if (!own) return [`there is no parameter ${name}`]
        const problem = mismatch(own, value)
        return problem ? [`${name} ${problem}`] : []
      }),
    ]
    if (problems.length > 0) throw new ShapeError("loadStateDict", problems.join("; "))
    for (const [name, tensor] of parameters) tensor.gpu.write(tensor, state[name]!.data)
  }

  /** Gives the memory of all parameters back. */
  dispose(): void {
    for (const tensor of Object.values(this.parameters)) tensor.dispose()
  }
}

const same = ({ value: a }: Tensor, { value: b }: Tensor): boolean => a.node === b.node && a.output === b.output

/** Why `own` cannot be overwritten with a value. */
const mismatch = (own: Tensor, { shape, data }: HostTensor): string | undefined => {
  if (!sameShape(own.shape, shape)) return `is ${showShape(own.shape)}, not ${showShape(shape)}`
  if (data.length !== own.size) return `has ${own.size} elements, not ${data.length}`
  if (isQuantized(own.dtype)) return `is ${own.dtype}, which is not made of single numbers`
  if (dtypeOf(data) !== computeType(own.dtype)) return `is ${own.dtype}, which ${dtypeOf(data)} does not fit`
  return own.value.node.memory[own.value.output]?.released ? "has been disposed of" : undefined
}

/** Tensors in `value` and in what it holds; `within` what holds it, to which a part may refer back. */
const named = (
  value: unknown,
  name = "",
  within: readonly unknown[] = [],
): readonly (readonly [name: string, tensor: Tensor])[] => {
  if (value instanceof Tensor) return [[name, value]]
  const holds = value instanceof Module || Array.isArray(value)
  if (!holds || within.includes(value)) return []
  return Object.entries(value).flatMap(([key, held]) =>
    named(held, name === "" ? key : `${name}.${key}`, [...within, value]),
  )
}
