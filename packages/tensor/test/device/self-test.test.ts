import { describe, expect, test } from "vitest"
import { KernelError, linear, openDevice, type DType, type Tensor } from "../../src/index.ts"
import { Gpu } from "../../src/device/gpu.ts"
import { Pipelines } from "../../src/device/pipelines.ts"
import { SelfTest, type WrongKernel } from "../../src/device/self-test.ts"
import { matmulCheck, smallProblem } from "../../src/kernels/matmul/check.ts"
import { bySubgroup, candidatesFor, plain, type Candidate, type Rating } from "../../src/kernels/matmul/choice.ts"
import type { Layout, Problem } from "../../src/kernels/matmul/problem.ts"
import { perItem, reads, writes, type Kernel } from "../../src/program/kernel.ts"
import { testDevice } from "../device.ts"
import { expectSameBits, randomArray } from "../reference.ts"
import { broken, oneStepShort } from "../tuning/broken.ts"

const gpu = await testDevice()
const candidates = gpu.traits.matmul.rated.nn.map(([candidate]) => candidate)
const layouts: readonly Layout[] = ["nn", "nt", "tn"]

/** Runs the checks of kernels, each on a pipeline of its own. */
const checked = async (pairs: readonly (readonly [Candidate, Problem])[]): Promise<readonly WrongKernel[]> => {
  const errors: Error[] = []
  const pipelines = new Pipelines(gpu.device, { onError: (error) => errors.push(error) })
  const selfTest = new SelfTest(gpu.device)
  for (const [candidate, problem] of pairs) {
    const { kernel } = candidate.launch(problem)
    selfTest.begin(kernel, matmulCheck(candidate, problem), pipelines.get(kernel))
  }
  const wrong = await selfTest.finish()
  expect(errors).toEqual([])
  return wrong
}

describe("the check of a matrix kernel", () => {
  const problems: readonly Problem[] = layouts.flatMap((layout) => [
    { layout, epilogue: "store", M: 64, N: 128, K: 256 },
    { layout, epilogue: "accumulate", M: 64, N: 128, K: 256 },
    { layout, epilogue: "residual", M: 33, N: 21, K: 18 },
    { layout, epilogue: "store", M: 5, N: 6, K: 7, batch: { count: 3, sharedA: false, sharedB: true } },
  ])

  test("is a small problem that has the very kernel", () => {
    for (const candidate of [...candidates, ...candidatesFor({ ...gpu.adapter, kind: "gpu" }, 32)])
      for (const problem of problems) {
        const small = smallProblem(candidate, problem)
        expect(candidate.launch(small).kernel.name).toBe(candidate.launch(problem).kernel.name)
        expect(matmulCheck(candidate, problem).kernel).toBe(candidate.launch(problem).kernel.name)
        expect(small.M > candidate.rows && small.N > candidate.columns).toBe(true)
        expect(small.M <= candidate.rows + 4 && small.N <= candidate.columns + 8).toBe(true)
      }
  })

  test("passes with all that this adapter may choose", async () => {
    // Large tiles take a software driver long to compile: they are tried on one problem, a small one on all.
    const small = candidates.at(-2)!
    expect(
      await checked([small, plain].flatMap((candidate) => problems.map((problem) => [candidate, problem] as const))),
    ).toEqual([])
    expect(await checked(candidates.map((candidate) => [candidate, problems[0]!] as const))).toEqual([])
  })

  test.runIf(gpu.traits.subgroupSize > 0)("passes with operands in panels, and notices others", async () => {
    const tile = bySubgroup(gpu.traits.subgroupSize, { rows: 32, quads: 2, depth: 2, accumulators: "memory" })
    const problem: Problem = { layout: "panels", epilogue: "store", M: 64, N: 128, K: 256 }
    const gated: Problem = { ...problem, gate: "silu" }
    expect(tile.launch(smallProblem(tile, gated)).kernel.name).toBe(tile.launch(gated).kernel.name)
    expect(await checked([problem, gated].map((each) => [tile, each] as const))).toEqual([])
    const astray = broken(tile, (body) => body.replace("let bPanel = group.x", "let bPanel = group.y"))
    expect(await checked([[astray, problem]])).toHaveLength(1)
  })

  test("passes with gates, and with weights of every storage type", async () => {
    const stored = (b: DType): Problem => ({
      layout: "nt",
      epilogue: "store",
      M: 8,
      N: 64,
      K: 64,
      stored: { a: "f32", b },
    })
    const gated: Problem = { layout: "nt", epilogue: "store", M: 8, N: 64, K: 64, gate: "silu" }
    const packed = (["f16", "bf16", "int8:32", "int4:32", "uint4:32:offset"] as const).map(stored)
    const narrow = candidates.filter(({ gates }) => gates).at(-2)!
    expect(
      await checked([narrow, plain].flatMap((each) => [gated, ...packed].map((problem) => [each, problem]))),
    ).toEqual([])
  })

  test.each([
    ["a step too few", oneStepShort],
    ["another row", (body: string) => body.replace("let m = (i / p.N) % p.M", "let m = (i / p.N + 1u) % p.M")],
    [
      "the wrong order",
      (body: string) =>
        body.replace(
          "a[atA + k * p.ak], b[atB + k * p.bk]",
          "a[atA + (p.K - 1u - k) * p.ak], b[atB + (p.K - 1u - k) * p.bk]",
        ),
    ],
  ])("fails with %s", async (_, mistake) => {
    const wrong = broken(plain, mistake)
    const problem = problems[0]!
    expect(wrong.launch(problem).kernel.body()).not.toBe(plain.launch(problem).kernel.body())
    const [found] = await checked([[wrong, problem]])
    expect(found).toMatchObject({ candidate: "plain", kernel: `broken ${plain.launch(problem).kernel.name}` })
    expect(found!.reason).toMatch(/^element \d+ of a known product is \S+ and must be \S+$/)
  })
})

/** A device of its own that prefers the first candidate to the others. */
const openWith = async (chosen: readonly Candidate[]) => {
  const { device, adapter } = await openDevice()
  const found: WrongKernel[] = []
  const speeds = Object.fromEntries(
    chosen.map(({ id }, i): [string, Rating] => [id, { alone: 10 ** -i, together: 10 ** -i }]),
  )
  const ratings = { nn: speeds, nt: speeds, "nt far": speeds, tn: speeds }
  const tuning = { source: "measured", ratings, forms: gpu.traits.forms, wrong: [] } as const
  return {
    own: new Gpu(device, adapter, {
      candidates: chosen,
      tuning,
      onWrongKernel: async (wrong) => void found.push(wrong),
    }),
    found,
  }
}

describe("a kernel that is wrong on an adapter", () => {
  const [x, w] = [randomArray(6 * 10, 1), randomArray(8 * 10, 2)]
  const product = (device: Gpu): Tensor => linear(device.tensor(x, [6, 10]), device.tensor(w, [8, 10]))
  const other = broken(plain, oneStepShort, "broken")

  test("is found out before its result is told, and not used again; the next one gives the right bits", async () => {
    const { own, found } = await openWith([other, plain])
    const compiled = own.compile((a: Tensor, b: Tensor) => linear(a, b))
    const inputs = [own.tensor(x, [6, 10]), own.tensor(w, [8, 10])] as const
    expect(compiled.explain(...inputs).kernels).toEqual(["broken matmul store: plain"])

    const failure = await compiled(...inputs)
      .data()
      .catch((error: unknown) => error)
    expect(failure).toBeInstanceOf(KernelError)
    expect((failure as KernelError).message).toContain(
      `broken matmul store: plain is wrong on ${own.adapter.name}: element`,
    )
    expect(found.map(({ candidate }) => candidate)).toEqual(["broken"])
    expect(own.tuning.wrong).toEqual(found)

    expect(compiled.explain(...inputs).kernels).toEqual(["matmul store: plain"])
    const right = await product(gpu).data()
    expectSameBits(await compiled(...inputs).data(), right)
    expectSameBits(await product(own).data(), right)
    expect(found).toHaveLength(1)
    own.destroy()
  })

  test("makes the device unusable if it is the simplest of all", async () => {
    const { own } = await openWith([{ ...other, id: plain.id }])
    await expect(product(own).data()).rejects.toThrow(KernelError)
    await expect(own.sync()).rejects.toThrow(/No simpler kernel is left: update the driver, or use another adapter/)
    expect(() => own.tensor([1])).toThrow(KernelError)
    own.destroy()
  })
})

test("kernels that round an fma differently do not go together", async () => {
  const problem: Problem = { layout: "nn", epilogue: "store", M: 64, N: 128, K: 256 }
  const selfTest = new SelfTest(gpu.device)
  const check = matmulCheck(plain, problem)
  /** A kernel that gives what an adapter of one kind or the other would. */
  const giving = (rounding: "fused" | "roundedFirst") => {
    const { after } = check.buffers[2]!
    const kernel: Kernel = {
      name: `gives what is ${rounding}`,
      params: {},
      buffers: [reads("a"), reads("b"), writes("out")],
      body: () => `${perItem(64, "arrayLength(&a)")} out[i] = a[i]; _ = b[0]; }`,
    }
    const buffers = [{ before: after![rounding].buffer as ArrayBuffer }, check.buffers[1]!, check.buffers[2]!]
    const grid = [Math.ceil(after!.fused.length / 64)] as const
    selfTest.begin(kernel, { ...check, kernel: kernel.name, params: [], grid, buffers }, pipelines.get(kernel))
  }
  const pipelines = new Pipelines(gpu.device, { onError: (error) => expect.fail(error.message) })
  giving("fused")
  expect(await selfTest.finish()).toEqual([])
  giving("fused")
  giving("roundedFirst")
  expect((await selfTest.finish()).map(({ kernel }) => kernel)).toEqual(["gives what is roundedFirst"])
})
