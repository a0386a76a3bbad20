import type { Pipelines } from "../device/pipelines.ts"
import type { DeviceTraits, Forms } from "../graph/fused-op.ts"
import { attentionLaunches } from "../kernels/attention/attention.ts"
import { rowForm, rowLaunch } from "../kernels/rows/launch.ts"
import { softmaxRows } from "../kernels/softmax.ts"
import type { Kernel } from "../program/kernel.ts"
import { median, timeLaunches, type Launch } from "../program/timing.ts"
import { bindLaunch, type UnboundLaunch } from "./bind.ts"

/** Which form is faster: that of the launches that take less time together. */
interface Question {
  readonly of: keyof Forms
  readonly forms: Readonly<Record<string, readonly UnboundLaunch[]>>
  /** What the buffers hold, by their names in the kernels. */
  readonly data: () => Readonly<Record<string, Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer>>>
}

const inForm = (device: DeviceTraits, forms: Partial<Forms>): DeviceTraits => ({
  ...device,
  forms: { ...device.forms, ...forms },
})

const rowsOf = (device: DeviceTraits): Question => {
  const [rows, width] = [device.isSoftware ? 512 : 8192, 1024]
  const launch = (form: Forms["rows"]): readonly UnboundLaunch[] => [
    {
      ...rowLaunch(softmaxRows, rows, rowForm(softmaxRows, rows, width, inForm(device, { rows: form }))),
      params: [rows, width],
    },
  ]
  return {
    of: "rows",
    forms: { held: launch("held"), walked: launch("walked") },
    data: () => ({ x: noise(rows * width), out: new Float32Array(rows * width) }),
  }
}

/** Forward and backward through four sequences. */
const attentionOf = (device: DeviceTraits): Question => {
  const { subgroupSize, isSoftware } = device
  const [length, headDim] = isSoftware ? [64, 32] : [512, 64]
  const [rows, heads, kvHeads] = [4 * length, 8, 2]
  const problem = { rows, heads, kvHeads, headDim, scale: 0.1, window: undefined, softCap: undefined }
  const launch = (form: Forms["attention"]) => attentionLaunches(problem, inForm(device, { attention: form }))
  const queries = () => noise(rows * heads * headDim)
  const keys = () => noise(2 * rows * kvHeads * headDim)
  const spans = () =>
    Int32Array.from({ length: 4 * rows }, (_, i) => {
      const row = i >> 2
      return [0, 0, row - (row % length), 1 + (row % length)][i & 3]!
    })
  return {
    of: "attention",
    // A CPU has no memory of its own for workgroups.
    forms: {
      ...(!isSoftware && { workgroup: launch("workgroup") }),
      invocation: launch("invocation"),
      ...((subgroupSize === 4 || subgroupSize === 8) && { subgroup: launch("subgroup") }),
    },
    data: () => ({
      q: queries(),
      kv: keys(),
      spans: spans(),
      out: queries(),
      o: queries(),
      lse: noise(rows * heads),
      delta: noise(rows * heads),
      grad: queries(),
      dq: queries(),
      dkv: keys(),
    }),
  }
}

/** A clock may be too coarse for one. */
const launchesPerSample = 4

/** No zeros: how fast multiplications are can depend on their bits. */
const noise = (length: number): Float32Array<ArrayBuffer> =>
  Float32Array.from({ length }, (_, i) => 0.25 + ((i * 40_503) % 65_536) / 131_072)

const questions = (device: DeviceTraits): readonly Question[] => [rowsOf(device), attentionOf(device)]

/** The kernels that decide: a change to one of them makes what was measured void. */
export const decidingKernels = (device: DeviceTraits): readonly Kernel[] =>
  questions(device).flatMap(({ forms }) => Object.values(forms).flatMap((form) => form.map(({ kernel }) => kernel)))

/** The forms that are fastest here: of `rounds` samples the median counts, each taken of all forms in turn. */
export const measureForms = async (
  device: GPUDevice,
  pipelines: Pipelines,
  traits: DeviceTraits,
  rounds: number,
): Promise<Forms> => {
  const found: Partial<Record<keyof Forms, string>> = {}
  for (const question of questions(traits)) found[question.of] = await fastestOf(device, pipelines, question, rounds)
  return { ...traits.forms, ...(found as Partial<Forms>) }
}

const fastestOf = async (
  device: GPUDevice,
  pipelines: Pipelines,
  { forms, data }: Question,
  rounds: number,
): Promise<string> => {
  const buffers = new Map(
    Object.entries(data()).map(([name, values]) => {
      const buffer = device.createBuffer({ size: values.byteLength, usage: 0x0080 | 0x0008 }) // STORAGE | COPY_DST
      device.queue.writeBuffer(buffer, 0, values)
      return [name, buffer]
    }),
  )
  const contenders = Object.entries(forms).map(([form, launches]) => {
    const bound = launches.map((each) => {
      const own = each.kernel.buffers.map(({ name }) => buffers.get(name)!)
      return bindLaunch(device, pipelines, each, own, launchesPerSample)
    })
    const all: Launch = (pass) => {
      for (const { launch } of bound) launch(pass)
    }
    return { form, all, uniforms: bound.map(({ uniform }) => uniform), samples: [] as number[] }
  })
  try {
    // The first round pays for more than its work.
    for (let round = 0; round <= rounds; round++) {
      const launches = contenders.map(({ all }) => all)
      const { times } = await timeLaunches(device, device.createCommandEncoder(), launches)
      if (round > 0) contenders.forEach(({ samples }, i) => samples.push(times[i]!))
    }
  } finally {
    for (const buffer of [...buffers.values(), ...contenders.flatMap(({ uniforms }) => uniforms)]) buffer.destroy()
  }
  return contenders.reduce((best, other) => (median(other.samples) < median(best.samples) ? other : best)).form
}
