// Run as a process of its own by ladder.test.ts: opens each adapter named on the command line in turn, squares four numbers
// on it, and prints one line of JSON for each.
import { requestGpu } from "../../src/adapter/request.ts"
import type { RequestGpuOptions } from "../../src/adapter/request.ts"

for (const kind of process.argv.slice(2)) {
  const outcome = await requestGpu({ adapter: kind as NonNullable<RequestGpuOptions["adapter"]> }).then(
    async ({ adapter, info }) => ({ info, squares: await squares(await adapter.requestDevice()) }),
    (error: Error) => ({ error: error.name, message: error.message }),
  )
  process.stdout.write(`${JSON.stringify(outcome)}\n`)
}

async function squares(device: GPUDevice): Promise<number[]> {
  const code = /* wgsl */ `
    @group(0) @binding(0) var<storage, read_write> out: array<u32>;
    @compute @workgroup_size(4) fn main(@builtin(global_invocation_id) id: vec3u) { out[id.x] = id.x * id.x; }`
  const module = device.createShaderModule({ code })
  const pipeline = device.createComputePipeline({ layout: "auto", compute: { module, entryPoint: "main" } })
  const buffer = device.createBuffer({ size: 16, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC })
  const staging = device.createBuffer({ size: 16, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ })
  const layout = pipeline.getBindGroupLayout(0)
  const encoder = device.createCommandEncoder()
  const pass = encoder.beginComputePass()
  pass.setPipeline(pipeline)
  pass.setBindGroup(0, device.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer } }] }))
  pass.dispatchWorkgroups(1)
  pass.end()
  encoder.copyBufferToBuffer(buffer, 0, staging, 0, 16)
  device.queue.submit([encoder.finish()])
  await staging.mapAsync(GPUMapMode.READ)
  return [...new Uint32Array(staging.getMappedRange())]
}
