import { readFile } from "node:fs/promises"
import * as ort from "onnxruntime-web/webgpu"
import type { Contender, Job } from "../contender.ts"
import { settle } from "../wait.ts"
import {
  blockData,
  blockWeights,
  causalMask,
  epsilon,
  matmulData,
  rowsData,
  type Block,
  type Matmul,
  type Operand,
  type Rows,
} from "../workloads.ts"
import { encodeModel, type Attribute, type Model, type NodeSpec } from "./onnx.ts"

/**
 * ONNX Runtime Web on its WebGPU execution provider. Operands and results stay on the device (I/O binding), so that no
 * copy is timed. It runs models forward only: there is no training step.
 */
export const openOrt = async (): Promise<Contender> => {
  const runtime = new URL("ort-wasm-simd-threaded.asyncify.wasm", import.meta.resolve("onnxruntime-web/webgpu"))
  ort.env.wasm.numThreads = 1
  ort.env.wasm.wasmBinary = (await readFile(runtime)).buffer as ArrayBuffer
  ort.env.logLevel = "error"
  return {
    name: "ONNX Runtime Web",
    version: ort.env.versions.web ?? ort.env.versions.common,
    prepare: async (workload) => {
      switch (workload.kind) {
        case "matmul":
          return matmul(workload)
        case "softmax":
        case "layerNorm":
          return rows(workload)
        case "mlp":
          return undefined
        case "block":
          return workload.pass === "forward" ? block(workload) : undefined
      }
    },
  }
}

const job = async (model: Model, operands: Readonly<Record<string, Operand>>): Promise<Job> => {
  const session = await ort.InferenceSession.create(encodeModel(model), {
    executionProviders: ["webgpu"],
    preferredOutputLocation: "gpu-buffer",
    logSeverityLevel: 3,
  })
  const device = await ort.env.webgpu.device
  const buffers: GPUBuffer[] = []
  const feeds = Object.fromEntries(
    Object.entries(operands).map(([name, { data, shape }]) => {
      const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST
      const buffer = device.createBuffer({ size: data.byteLength, usage })
      device.queue.writeBuffer(buffer, 0, data)
      buffers.push(buffer)
      return [name, ort.Tensor.fromGpuBuffer(buffer, { dataType: "float32", dims: shape })]
    }),
  )
  return {
    run: async (times) => {
      for (let i = 0; i < times; i++) (await settle(session.run(feeds)))["out"]!.dispose()
      await settle(device.queue.onSubmittedWorkDone())
    },
    result: async () => {
      const { out } = await settle(session.run(feeds))
      const data = (await settle(out!.getData())) as Float32Array
      out!.dispose()
      return data
    },
    dispose: () => {
      for (const buffer of buffers) buffer.destroy()
      void session.release()
    },
  }
}

const node = (
  op: string,
  inputs: string,
  outputs: string,
  attributes?: Readonly<Record<string, Attribute>>,
): NodeSpec => ({
  op,
  inputs: inputs.split(" "),
  outputs: outputs.split(" "),
  ...(attributes && { attributes }),
})

const matmul = (workload: Matmul): Promise<Job> => {
  const { layout, M, N } = workload
  const { a, b } = matmulData(workload)
  const product =
    layout === "nn"
      ? node("MatMul", "a b", "out")
      : node("Gemm", "a b", "out", { transA: layout === "tn" ? 1 : 0, transB: layout === "nt" ? 1 : 0 })
  return job({ inputs: { a: a.shape, b: b.shape }, outputs: { out: [M, N] }, nodes: [product] }, { a, b })
}

const norm = (input: string, output: string) =>
  node("LayerNormalization", `${input} one zero`, output, { axis: -1, epsilon: { float: epsilon } })

const noWeights = (width: number) => ({
  one: { shape: [width], data: new Float32Array(width).fill(1) },
  zero: { shape: [width], data: new Float32Array(width) },
})

const rows = (workload: Rows): Promise<Job> => {
  const x = rowsData(workload)
  const softmax = workload.kind === "softmax"
  return job(
    {
      inputs: { x: x.shape },
      outputs: { out: x.shape },
      nodes: [softmax ? node("Softmax", "x", "out", { axis: -1 }) : norm("x", "out")],
      ...(!softmax && { constants: noWeights(workload.columns) }),
    },
    { x },
  )
}

const block = (workload: Block): Promise<Job> => {
  const { batch, tokens, width, heads } = workload
  const headDim = width / heads
  const { x, ...weights } = blockData(workload)
  const shapeOf = (...dims: readonly number[]) => ({ shape: [dims.length], data: BigInt64Array.from(dims.map(BigInt)) })
  const nodes = [
    norm("x", "h"),
    node("MatMul", "h qkv", "projected"),
    node("Reshape", "projected byHead", "split"),
    node("Transpose", "split", "ordered", { perm: [2, 0, 3, 1, 4] }),
    node("Reshape", "ordered stacked", "parts"),
    node("Split", "parts", "q k v", { axis: 0, num_outputs: 3 }),
    node("Transpose", "k", "kT", { perm: [0, 1, 3, 2] }),
    node("MatMul", "q kT", "products"),
    node("Mul", "products scale", "scaled"),
    node("Add", "scaled mask", "scores"),
    node("Softmax", "scores", "probabilities", { axis: -1 }),
    node("MatMul", "probabilities v", "perHead"),
    node("Reshape", "perHead heads", "headsOf"),
    node("Transpose", "headsOf", "rowsOf", { perm: [0, 2, 1, 3] }),
    node("Reshape", "rowsOf flat", "attended"),
    node("MatMul", "attended o", "mixed"),
    node("Add", "x mixed", "middle"),
    norm("middle", "h2"),
    node("MatMul", "h2 up", "wide"),
    node("Gelu", "wide", "active", { approximate: "tanh" }),
    node("MatMul", "active down", "narrow"),
    node("Add", "middle narrow", "out"),
  ]
  const constants = {
    ...noWeights(width),
    ...Object.fromEntries(blockWeights.map((name) => [name, weights[name]])),
    mask: { shape: [1, 1, tokens, tokens], data: causalMask(tokens) },
    scale: { shape: [1], data: Float32Array.of(1 / Math.sqrt(headDim)) },
    byHead: shapeOf(batch, tokens, 3, heads, headDim),
    stacked: shapeOf(3, batch * heads, tokens, headDim),
    heads: shapeOf(batch, heads, tokens, headDim),
    flat: shapeOf(batch * tokens, width),
  }
  return job({ inputs: { x: x.shape }, outputs: { out: x.shape }, nodes, constants }, { x })
}
