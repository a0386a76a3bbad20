/**
 * What a recorded step costs in JavaScript: the time of the call that encodes and submits it, without waiting for the GPU,
 * by kernel. Beside it what WebGPU alone takes for as many bare launches, in turns.
 *
 *   bun overhead.ts [--adapter lavapipe|swiftshader|gpu] [--kernels 500] [--calls 200]
 */
import { cpus, loadavg } from "node:os"
import { parseArgs } from "node:util"
import { adamw, nn, openDevice, type AdapterKind, type Gpu, type Tensor } from "@rlpt/tensor"
import { median } from "./measure.ts"

const { values } = parseArgs({
  options: {
    adapter: { type: "string", default: "auto" },
    kernels: { type: "string", default: "500" },
    calls: { type: "string", default: "200" },
  },
})
const [kernels, calls] = [Number(values.kernels), Number(values.calls)]

/** Something that is called over and over, and how many kernels it launches. */
interface Case {
  readonly name: string
  readonly launches: number
  readonly call: () => void
}

const width = 16

/** The step of training a network deep enough for `kernels` launches: forward, backward, AdamW. */
const trainingStep = (gpu: Gpu): Case => {
  const build = (layers: number) => {
    const model = new nn.Sequential(
      ...Array.from({ length: layers }, (_, i) => [
        new nn.Linear(gpu, width, width, { seed: i }),
        (x: Tensor) => x.tanh(),
      ]).flat(),
    )
    const optimizer = adamw(Object.values(model.parameters), { lr: 1e-3 })
    return nn.trainStep(optimizer, (x: Tensor, y: Tensor) => model.forward(x).crossEntropy(y))
  }
  const x = gpu.normal([8, width], { seed: 1 })
  const y = gpu.tensor(Int32Array.from({ length: 8 }, (_, i) => i))
  const launchesOf = (layers: number) => build(layers).explain(x, y).launches
  const each = (launchesOf(20) - launchesOf(10)) / 10
  const step = build(Math.ceil((kernels - launchesOf(10)) / each) + 10)
  return {
    name: "training step of a deep network",
    launches: step.explain(x, y).launches,
    call: () => step(x, y).dispose(),
  }
}

/** A chain of products, no two with the same operands. */
const chain = (gpu: Gpu): Case => {
  const weights = Array.from({ length: kernels }, (_, i) => gpu.normal([width, width], { seed: i, std: 0.2 }))
  const run = gpu.compile((x: Tensor) => weights.reduce((h, w) => h.matmul(w), x))
  const x = gpu.normal([width, width], { seed: 1 })
  return { name: "chain of matrix products", launches: run.explain(x).launches, call: () => run(x).dispose() }
}

/** As many launches with nothing of ours around them: two kernels in turns, so that each sets its pipeline and bind group. */
const bare = ({ device }: Gpu): Case => {
  const buffer = device.createBuffer({ size: 1024, usage: GPUBufferUsage.STORAGE })
  const launches = [1, 2].map((factor) => {
    const code = `@group(0) @binding(0) var<storage, read_write> x: array<f32>;
      @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) { x[id.x] *= ${factor}.0; }`
    const pipeline = device.createComputePipeline({
      layout: "auto",
      compute: { module: device.createShaderModule({ code }) },
    })
    const group = device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: [{ binding: 0, resource: { buffer } }],
    })
    return { pipeline, group }
  })
  const call = () => {
    const encoder = device.createCommandEncoder()
    const pass = encoder.beginComputePass()
    for (let i = 0; i < kernels; i++) {
      const { pipeline, group } = launches[i % 2]!
      pass.setPipeline(pipeline)
      pass.setBindGroup(0, group)
      pass.dispatchWorkgroups(1)
    }
    pass.end()
    device.queue.submit([encoder.finish()])
  }
  return { name: "bare WebGPU launches", launches: kernels, call }
}

const gpu = await openDevice({ adapter: values.adapter as AdapterKind | "auto" })
const cases = [trainingStep(gpu), chain(gpu), bare(gpu)]
const times = cases.map((): number[] => [])
const warmUp = 30
for (let round = 0; round < warmUp + calls; round++)
  for (const [i, { call, launches }] of cases.entries()) {
    const start = performance.now()
    call()
    const microseconds = 1000 * (performance.now() - start)
    await gpu.sync()
    if (round >= warmUp) times[i]!.push(microseconds / launches)
  }

const runtime = process.versions["bun"] ? `Bun ${process.versions["bun"]}` : `Node ${process.version}`
console.log(`${runtime}, ${gpu.adapter.name}, ${cpus()[0]!.model}, load ${loadavg()[0]!.toFixed(1)}`)
console.log(`µs of JavaScript per kernel, of ${calls} calls:`)
for (const [i, { name, launches }] of cases.entries()) {
  const sorted = times[i]!.toSorted((a, b) => a - b)
  console.log(
    `  ${name} (${launches} launches): median ${median(sorted).toFixed(2)}, least ${sorted[0]!.toFixed(2)}, ` +
      `nine of ten below ${sorted[Math.floor(0.9 * sorted.length)]!.toFixed(2)}`,
  )
}
process.exit(0)
