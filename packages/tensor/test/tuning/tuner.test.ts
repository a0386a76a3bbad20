import { describe, expect, test } from "vitest"
import {
  adamw,
  DeviceLostError,
  KernelError,
  linear,
  openDevice,
  valueAndGrad,
  type Forms,
  type Ratings,
  type Shelf,
  type Tensor,
} from "../../src/index.ts"
import { Gpu } from "../../src/device/gpu.ts"
import { Pipelines } from "../../src/device/pipelines.ts"
import { plain, problemClasses, type Candidate, type Rating } from "../../src/kernels/matmul/choice.ts"
import { measureForms } from "../../src/tuning/forms.ts"
import { measureRatings } from "../../src/tuning/measure.ts"
import { measureKernels, Tuner } from "../../src/tuning/tuner.ts"
import { testDevice } from "../device.ts"
import { expectSameBits } from "../reference.ts"
import { broken, oneStepShort } from "./broken.ts"

const gpu = await testDevice()
const candidates = gpu.traits.matmul.rated.nn.map(([candidate]) => candidate)
const narrow = candidates.at(-2)!
const forms: Forms = { rows: "walked", attention: "invocation" }
/** An adapter of which nothing is known. */
const unknown = { ...gpu.adapter, kind: "gpu" } as const

const ratingsOf = (speed: (candidate: Candidate, place: number) => number, of = candidates): Ratings => {
  const column = Object.fromEntries(
    of.map((candidate, place): [string, Rating] => {
      const value = speed(candidate, place)
      return [candidate.id, { alone: value, together: value }]
    }),
  )
  return { nn: column, nt: column, "nt far": column, tn: column }
}

/** A shelf in memory, and what was put on it. */
const memoryShelf = (
  kept = new Map<string, string>(),
): { readonly shelf: Shelf; readonly kept: Map<string, string> } => ({
  kept,
  shelf: {
    read: async (name) => {
      const text = kept.get(name)
      return text === undefined ? undefined : { text, place: `memory/${name}` }
    },
    write: async (name, text) => {
      kept.set(name, text)
      return `memory/${name}`
    },
  },
})

/** A tuner whose measurements are made up: they count, and tell how many candidates they had. */
const tunerOf = ({
  adapter = unknown,
  of = [narrow, plain],
  shelf = memoryShelf().shelf,
}: {
  readonly adapter?: Tuner["adapter"]
  readonly of?: readonly Candidate[]
  readonly shelf?: Shelf
} = {}) => {
  const measured: (readonly string[])[] = []
  const told: string[] = []
  const notify = (message: string) => void (message.startsWith("measuring") || told.push(message))
  const measure: typeof measureKernels = async (_, __, right) => {
    measured.push(right.map(({ id }) => id))
    return { ratings: ratingsOf((_candidate, place) => 100 - place, [...right]), forms }
  }
  const tuner = new Tuner(gpu.device, adapter, of, shelf, notify, measure)
  return { tuner, measured, told }
}

test("measuring gives every candidate a speed for every class of problem", async () => {
  const pipelines = new Pipelines(gpu.device, { onError: (error) => expect.fail(error.message) })
  const ratings = await measureRatings(gpu.device, [narrow, plain], pipelines, { sample: 1e4, rounds: 3, largest: 512 })
  expect(Object.keys(ratings)).toEqual([...problemClasses])
  for (const of of problemClasses) {
    expect(Object.keys(ratings[of])).toEqual([narrow.id, plain.id])
    for (const { alone, together } of Object.values(ratings[of])) {
      expect(alone).toBeGreaterThan(0)
      expect(together).toBeGreaterThanOrEqual(alone)
      expect(Number.isFinite(together)).toBe(true)
    }
  }
})

test("measuring finds a form for each kernel that has several, and every form runs", async () => {
  const pipelines = new Pipelines(gpu.device, { onError: (error) => expect.fail(error.message) })
  const found = await measureForms(gpu.device, pipelines, gpu.traits, 1)
  expect(["held", "walked"]).toContain(found.rows)
  expect(["subgroup", "workgroup", "invocation"]).toContain(found.attention)
  await gpu.sync()
})

describe("a tuner", () => {
  test("measures an adapter of which nothing is known once, and remembers", async () => {
    const { shelf, kept } = memoryShelf()
    const first = tunerOf({ shelf })
    const tuning = await first.tuner.tuning("auto")
    const place = `memory/${[...kept.keys()][0]}`
    expect(tuning).toMatchObject({ source: "measured", place, wrong: [] })
    expect(first.measured).toEqual([[narrow.id, "plain"]])
    expect(first.told.join("\n")).toMatch(/^measured kernels on .* in .* s; remembered in memory\/tuning-/)

    const second = tunerOf({ shelf })
    expect(await second.tuner.tuning("auto")).toEqual({ ...tuning, source: "remembered" })
    expect([second.measured, second.told]).toEqual([[], []])
    const third = tunerOf({ shelf })
    expect((await third.tuner.tuning("always")).source).toBe("measured")
    expect(third.measured).toHaveLength(1)
  })

  test("takes what is known of a software driver, unless it was asked to measure once", async () => {
    const { shelf, kept } = memoryShelf()
    const options = { adapter: gpu.adapter, of: [narrow, plain], shelf }
    const { tuner, measured, told } = tunerOf(options)
    expect((await tuner.tuning("auto")).source).toBe("known")
    expect([measured, told, kept.size]).toEqual([[], [], 0])
    await tunerOf(options).tuner.tuning("always")
    expect((await tunerOf(options).tuner.tuning("auto")).source).toBe("remembered")
  })

  test("that may not measure reads and writes nothing", async () => {
    const refuses = () => Promise.reject(new Error("nobody may ask"))
    const { tuner, measured, told } = tunerOf({ shelf: { read: refuses, write: refuses } })
    expect((await tuner.tuning("never")).source).toBe("assumed")
    expect(measured).toEqual([])
    await tuner.found({ kernel: "a kernel", candidate: narrow.id, reason: "element 3 is 1 and must be 2" })
    expect(told).toHaveLength(1)
  })

  test("does not take the record of another adapter, driver or kernel", async () => {
    const { shelf, kept } = memoryShelf()
    await tunerOf({ shelf }).tuner.tuning("auto")
    const others: readonly Parameters<typeof tunerOf>[0][] = [
      { adapter: { ...unknown, driver: "one version later" } },
      { adapter: { ...unknown, architecture: "another" } },
      { of: [plain] },
      { of: [broken(narrow, (body) => `${body}\n// changed`), plain] },
    ]
    for (const other of others) {
      const { tuner, measured } = tunerOf({ ...other, shelf })
      expect((await tuner.tuning("auto")).source).toBe("measured")
      expect(measured).toHaveLength(1)
    }
    expect(kept.size).toBe(1 + others.length)
  })

  test.each([
    ["is cut off", (text: string) => text.slice(0, text.length / 2)],
    ["is empty", () => ""],
    ["is of something else", (text: string) => text.replace("vendor", "other")],
    ["names a kernel that there is not", (text: string) => text.replaceAll('"plain"', '"fancy"')],
    ["has a speed of zero", (text: string) => text.replace(/"alone": [\d.]+/, '"alone": 0')],
    ["has a speed that is text", (text: string) => text.replace(/"alone": [\d.]+/, '"alone": "fast"')],
    ["lacks a class", (text: string) => text.replace('"nt far"', '"nt near"')],
    ["names a form that there is not", (text: string) => text.replace('"invocation"', '"magic"')],
    ["has no forms", (text: string) => text.replace('"forms"', '"shapes"')],
    ["has no list of what is wrong", (text: string) => text.replace('"wrong": []', '"wrong": {}')],
    ["is no record", () => "[1, 2]"],
  ])("measures anew where its record %s, and replaces it", async (_, damage) => {
    const { shelf, kept } = memoryShelf()
    await tunerOf({ shelf }).tuner.tuning("auto")
    const [[name, sound]] = [...kept] as [[string, string]]
    kept.set(name, damage(sound))
    expect(kept.get(name)).not.toBe(sound)
    const { tuner, measured } = tunerOf({ shelf })
    expect((await tuner.tuning("auto")).source).toBe("measured")
    expect(measured).toHaveLength(1)
    expect(kept.get(name)).toBe(sound)
  })

  test("works where nothing can be kept, and says so", async () => {
    const shelf: Shelf = {
      read: () => Promise.resolve(undefined),
      write: () => Promise.reject(new Error("read-only file system")),
    }
    const { tuner, told } = tunerOf({ shelf })
    const tuning = await tuner.tuning("auto")
    expect(tuning.source).toBe("measured")
    expect(tuning.place).toBeUndefined()
    expect(told[0]).toMatch(/cannot be remembered: read-only file system$/)
  })

  test("makes do without where there is no memory to measure in, and tries again the next time", async () => {
    const { shelf, kept } = memoryShelf()
    const told: string[] = []
    const measure: typeof measureKernels = async (device, _, right) => {
      device.createBuffer({ size: 2 * device.limits.maxBufferSize, usage: 0x80 })
      return { ratings: ratingsOf(() => 1, [...right]), forms }
    }
    const tuner = new Tuner(gpu.device, unknown, [narrow, plain], shelf, (message) => told.push(message), measure)
    expect(await tuner.tuning("auto")).toMatchObject({ source: "assumed", wrong: [] })
    expect(told.at(-1)).toMatch(/could not be measured: .*size/i)
    expect(kept.size).toBe(0)
    expect((await tunerOf({ shelf }).tuner.tuning("auto")).source).toBe("measured")
  })

  test("says so when the device is lost meanwhile", async () => {
    const { device } = await openDevice()
    const measure: typeof measureKernels = (...all) => {
      device.destroy()
      return measureKernels(...all)
    }
    const tuner = new Tuner(device, unknown, [plain], memoryShelf().shelf, () => {}, measure)
    await expect(tuner.tuning("auto")).rejects.toThrow(DeviceLostError)
  })

  test("leaves out a kernel that is wrong, names it and the adapter, and remembers that", async () => {
    const { shelf } = memoryShelf()
    const of = [broken(plain, oneStepShort, "short"), narrow, plain]
    const { tuner, measured, told } = tunerOf({ of, shelf })
    const tuning = await tuner.tuning("auto")
    expect(tuning.wrong.map(({ candidate }) => candidate)).toEqual(["short"])
    expect(measured).toEqual([[narrow.id, "plain"]])
    expect(told[0]).toContain(
      `the kernel "broken matmul store: plain" is wrong on ${gpu.adapter.name} and is not used:`,
    )
    const later = await tunerOf({ of, shelf }).tuner.tuning("auto")
    expect(later).toEqual({ ...tuning, source: "remembered" })
    const { device, adapter } = await openDevice()
    const own = new Gpu(device, adapter, { candidates: of, tuning: later })
    expect(own.traits.matmul.rated.nn.map(([{ id }]) => id)).toEqual([narrow.id, "plain"])
    own.destroy()
  })

  test("leaves out a kernel that the driver refuses, with its reason", async () => {
    const of = [broken(plain, (body) => body.replace("fma(", "nothing("), "refused"), plain]
    const { tuner } = tunerOf({ of })
    const { wrong } = await tuner.tuning("auto")
    expect(wrong).toHaveLength(1)
    expect(wrong[0]).toMatchObject({ candidate: "refused" })
    expect(wrong[0]!.reason).toMatch(/^the driver refuses it: .*nothing/)
    // The device works on.
    expect(await gpu.tensor([1, 2]).sum().item()).toBe(3)
  })

  test("refuses a device whose simplest kernel is wrong", async () => {
    const { tuner } = tunerOf({ of: [narrow, broken(plain, oneStepShort)] })
    await expect(tuner.tuning("auto")).rejects.toThrow(KernelError)
    await expect(tuner.tuning("always")).rejects.toThrow(/wrong products with its simplest kernel .*update its driver/)
  })

  test("remembers a kernel that turns out to be wrong later, beside what was measured", async () => {
    const { shelf } = memoryShelf()
    const { tuner, told } = tunerOf({ shelf })
    const { ratings } = await tuner.tuning("auto")
    const wrong = { kernel: "a kernel", candidate: narrow.id, reason: "element 3 is 1 and must be 2" }
    await tuner.found(wrong)
    expect(told.at(-1)).toContain('the kernel "a kernel" is wrong on')
    expect(await tunerOf({ shelf }).tuner.tuning("auto")).toMatchObject({
      source: "remembered",
      ratings,
      forms,
      wrong: [wrong],
    })
  })
})

test("a training run has the same bits whatever is thought of the kernels", async () => {
  const { device, adapter } = await openDevice()
  const train = async (ratings: Ratings) => {
    const own = new Gpu(device, adapter, {
      tuning: { source: "measured", ratings, forms: gpu.traits.forms, wrong: [] },
    })
    const weights = [own.normal([40, 24], { seed: 1 }), own.normal([24, 40], { seed: 2 })]
    const optimizer = adamw(weights)
    const step = own.compile((x: Tensor) =>
      optimizer.step(valueAndGrad((up, down) => linear(linear(x, up!).silu(), down!).square().mean(), weights)),
    )
    const x = own.normal([20, 24], { seed: 3 })
    const kernels = step.explain(x).kernels.filter((name) => name.startsWith("matmul"))
    for (let i = 0; i < 3; i++) step(x)
    return { result: await own.readAll(weights), kernels }
  }
  const favourites = [candidates.at(-3)!, narrow, plain]
  const runs: Awaited<ReturnType<typeof train>>[] = []
  for (const favourite of favourites)
    runs.push(await train(ratingsOf((candidate) => (candidate === favourite ? 1e6 : 1e-3))))
  device.destroy()
  expect(new Set(runs.map(({ kernels }) => kernels.join())).size).toBe(favourites.length)
  for (const { result } of runs.slice(1))
    result.forEach((values, i) => expectSameBits(values, runs[0]!.result[i]!, `weight ${i}`))
})
