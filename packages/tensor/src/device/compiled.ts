import { TensorError } from "../errors.ts"
import { Node, type Spec, type Value } from "../graph/node.ts"
import { Tensor } from "../graph/tensor.ts"
import type { Program } from "../program/program.ts"
import { explanationOf, type Explanation } from "./explanation.ts"
import type { Gpu } from "./gpu.ts"
import { profileOf, type Profile } from "./profile.ts"
import type { Storage } from "./storage.ts"

/** What a compiled function may return. */
export type Outputs = Tensor | readonly Tensor[] | Readonly<Record<string, Tensor>>

export interface Compiled<Args extends readonly Tensor[], Result> {
  (...inputs: Args): Result
  /** The kernels that a call with these inputs launches. */
  readonly explain: (...inputs: Args) => Explanation
  /**
   * Runs a call with these inputs and tells the time of each kernel. What the function updates is updated; what it would
   * return is dropped. The first call on new shapes compiles and touches fresh memory: profile one that has run before.
   */
  readonly profile: (...inputs: Args) => Promise<Profile>
  /** Drops the recorded programs. */
  readonly dispose: () => void
}

/** What compiling needs of a device. */
export interface CompileHost {
  readonly gpu: Gpu
  /** Throws if nothing may run now. */
  readonly ready: (name: string) => void
  /** Runs a function without computing anything; tells what it would update in place. */
  readonly trace: <A>(run: () => A) => { readonly result: A; readonly effects: readonly Node[] }
  readonly program: (outputs: readonly Value[], effects: readonly Node[], inputs: readonly Node[]) => Program
  readonly storages: (tensors: readonly Tensor[]) => readonly Storage[]
  /** Changes when kernels are chosen anew: programs that were recorded before are then stale. */
  readonly kernelsVersion: () => number
  /** Awaits the GPU; throws what it reported meanwhile. */
  readonly settled: <A>(operation: string, promise: Promise<A>) => Promise<A>
}

/** One recording of a compiled function. */
interface Recorded<Result> {
  readonly program: Program
  readonly rebuild: (storages: readonly Storage[]) => Result
  /** Held because memory that the trace made lives as long as the graph that reads it. */
  readonly effects: readonly Node[]
}

/** `fn`, recorded once for each set of input shapes; see `Gpu.compile`. */
export const compileFunction = <Args extends readonly Tensor[], Result extends Outputs>(
  host: CompileHost,
  fn: (...inputs: Args) => Result,
  owner: string,
): Compiled<Args, Result> => {
  const { gpu } = host
  const programs = new Map<string, Recorded<Result>>()
  const build = (specs: readonly Spec[]): Recorded<Result> => {
    const inputs = specs.map((spec, index) => new Node({ kind: "input", index }, [], [spec]))
    const args = inputs.map((node) => new Tensor(gpu, { node, output: 0 })) as unknown as Args
    const { result, effects } = host.trace(() => fn(...args))
    const tensors = listOutputs(result, owner)
    const values = tensors.map((tensor) => tensor.value)
    const program = host.program(values, effects, inputs)
    const rebuild = (storages: readonly Storage[]): Result =>
      rebuildOutputs(
        result,
        tensors.map(({ shape, dtype }, i) => gpu.wrap(storages[i]!, shape, dtype, owner)),
      )
    return { program, rebuild, effects }
  }
  const forget = () => {
    for (const { program } of programs.values()) program.dispose()
    programs.clear()
  }
  let version = host.kernelsVersion()
  const lookup = (args: Args): Recorded<Result> => {
    const other = args.findIndex((arg) => !(arg instanceof Tensor))
    if (other >= 0)
      throw new TensorError(
        owner,
        `argument ${other} is no tensor: a compiled function takes tensors, and closes over the rest`,
      )
    if (version !== host.kernelsVersion()) forget()
    version = host.kernelsVersion()
    const specs = args.map(({ shape, dtype }) => ({ shape, dtype }))
    const key = specs.map(({ shape, dtype }) => `${dtype}${shape.join("x")}`).join()
    const known = programs.get(key)
    if (known) return known
    const built = build(specs)
    programs.set(key, built)
    return built
  }
  const call = (...args: Args): Result => {
    host.ready(owner)
    const { program, rebuild } = lookup(args)
    return rebuild(program.run(host.storages(args), owner))
  }
  return Object.assign(call, {
    explain: (...args: Args): Explanation => explanationOf(lookup(args).program),
    profile: async (...args: Args): Promise<Profile> => {
      host.ready(owner)
      if (gpu.rehearses) throw new TensorError("profile", "a rehearsal runs no kernels that could be timed")
      const { program } = lookup(args)
      return profileOf(program.work, await host.settled("profile", program.time(host.storages(args), owner)))
    },
    dispose: forget,
  })
}

/** The tensors among `outputs`, in a fixed order. */
const listOutputs = (outputs: Outputs, owner: string): readonly Tensor[] => {
  const isRecord = typeof outputs === "object" && outputs !== null && !(outputs instanceof Promise)
  const tensors: readonly unknown[] =
    outputs instanceof Tensor ? [outputs] : isRecord ? Object.values(outputs) : [outputs]
  if (tensors.some((tensor) => !(tensor instanceof Tensor)))
    throw new TensorError(
      owner,
      "a compiled function returns a tensor, a list or a record of tensors, and is not async",
    )
  return tensors as readonly Tensor[]
}

/** `tensors` in the form in which a function returned its outputs. */
const rebuildOutputs = <Result extends Outputs>(shape: Result, tensors: readonly Tensor[]): Result => {
  if (shape instanceof Tensor) return tensors[0] as unknown as Result
  if (Array.isArray(shape)) return tensors as unknown as Result
  return Object.fromEntries(Object.keys(shape).map((key, i) => [key, tensors[i]!])) as unknown as Result
}
