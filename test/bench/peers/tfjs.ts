import * as tf from "@tensorflow/tfjs"
import manifest from "@tensorflow/tfjs/package.json" with { type: "json" }
import type { WebGPUBackend } from "@tensorflow/tfjs-backend-webgpu"
import type { Contender, Job } from "../contender.ts"
import { settle } from "../wait.ts"
import {
  blockData,
  blockWeights,
  causalMask,
  epsilon,
  learningRate,
  matmulData,
  mlpData,
  rowsData,
  type Block,
  type Matmul,
  type Mlp,
  type Operand,
  type Rows,
} from "../workloads.ts"

type Value = tf.Tensor

const tensor = ({ data, shape }: Operand): Value => tf.tensor(data, shape)

/** TensorFlow.js on its WebGPU backend: eager, every operation a launch or more. */
export const openTfjs = async (): Promise<Contender> => {
  await import("@tensorflow/tfjs-backend-webgpu")
  if (!(await tf.setBackend("webgpu"))) throw new Error("tfjs finds no WebGPU")
  await tf.ready()
  return {
    name: "tfjs",
    version: manifest.version,
    prepare: async (workload) => {
      switch (workload.kind) {
        case "matmul":
          return matmul(workload)
        case "softmax":
        case "layerNorm":
          return rows(workload)
        case "mlp":
          return mlp(workload)
        case "block":
          return block(workload)
      }
    },
  }
}

/** Waits for all that was asked for so far. */
const finish = async (): Promise<void> => {
  const backend = tf.backend() as WebGPUBackend
  // Reading a loss has submitted everything before it; an empty queue cannot be submitted again.
  const { commandEncoder } = backend as unknown as { readonly commandEncoder: GPUCommandEncoder | null }
  if (commandEncoder !== null) {
    backend.endComputePassEncoder()
    backend.submitQueue()
  }
  await settle(backend.device.queue.onSubmittedWorkDone())
}

const single = (compute: () => Value, operands: readonly Value[]): Job => ({
  run: async (times) => {
    for (let i = 0; i < times; i++) compute().dispose()
    await finish()
  },
  result: async () => {
    const value = compute()
    const data = await settle(value.data())
    value.dispose()
    return data as Float32Array
  },
  dispose: () => operands.forEach((operand) => operand.dispose()),
})

const matmul = (workload: Matmul): Job => {
  const data = matmulData(workload)
  const [a, b] = [tensor(data.a), tensor(data.b)]
  return single(() => tf.matMul(a, b, workload.layout === "tn", workload.layout === "nt"), [a, b])
}

const layerNorm = (x: Value): Value =>
  tf.tidy(() => {
    const { mean, variance } = tf.moments(x, -1, true)
    return tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, epsilon)))
  })

const gelu = (x: Value): Value =>
  tf.tidy(() => {
    const angle = tf.mul(Math.sqrt(2 / Math.PI), tf.add(x, tf.mul(0.044715, tf.mul(x, tf.mul(x, x)))))
    return tf.mul(tf.mul(0.5, x), tf.add(1, tf.tanh(angle)))
  })

const rows = (workload: Rows): Job => {
  const x = tensor(rowsData(workload))
  return single(() => (workload.kind === "softmax" ? tf.softmax(x) : layerNorm(x)), [x])
}

const lossAndGradient = async (loss: () => tf.Scalar, weights: readonly tf.Variable[]): Promise<readonly number[]> => {
  const { value, grads } = tf.variableGrads(loss, [...weights])
  const first = grads[weights[0]!.name]!
  const numbers = [...(await settle(value.data())), ...(await settle(first.data()))]
  value.dispose()
  for (const gradient of Object.values(grads)) gradient.dispose()
  return numbers
}

const mlp = (workload: Mlp): Job => {
  const data = mlpData(workload)
  const [x, y] = [tensor(data.x), tensor(data.y)]
  const weights = [tf.variable(tensor(data.w1)), tf.variable(tensor(data.w2))] as const
  const optimizer = tf.train.sgd(learningRate)
  const loss = () => tf.mean(tf.square(tf.sub(tf.matMul(gelu(tf.matMul(x, weights[0])), weights[1]), y))) as tf.Scalar
  return {
    run: async (times) => {
      for (let i = 0; i < times; i++) {
        const value = optimizer.minimize(loss, true, [...weights])!
        await settle(value.data())
        value.dispose()
      }
    },
    result: () => lossAndGradient(loss, weights),
    dispose: () => [x, y, ...weights].forEach((value) => value.dispose()),
  }
}

const block = (workload: Block): Job => {
  const { batch, tokens, width, heads, pass } = workload
  const headDim = width / heads
  const data = blockData(workload)
  const x = tensor(data.x)
  const mask = tf.tensor(causalMask(tokens), [1, tokens, tokens])
  const [qkv, o, up, down] = blockWeights.map((name) => tf.variable(tensor(data[name]))) as [
    tf.Variable,
    tf.Variable,
    tf.Variable,
    tf.Variable,
  ]
  const forward = (): Value =>
    tf.tidy(() => {
      const parts = tf.transpose(
        tf.reshape(tf.matMul(layerNorm(x), qkv), [batch, tokens, 3, heads, headDim]),
        [2, 0, 3, 1, 4],
      )
      const [q, k, v] = tf
        .split(tf.reshape(parts, [3, batch * heads, tokens, headDim]), 3, 0)
        .map((part) => tf.reshape(part, [batch * heads, tokens, headDim])) as [Value, Value, Value]
      const scores = tf.add(tf.mul(tf.matMul(q, k, false, true), 1 / Math.sqrt(headDim)), mask)
      const perHead = tf.reshape(tf.matMul(tf.softmax(scores), v), [batch, heads, tokens, headDim])
      const attended = tf.reshape(tf.transpose(perHead, [0, 2, 1, 3]), [batch * tokens, width])
      const middle = tf.add(x, tf.matMul(attended, o))
      return tf.add(middle, tf.matMul(gelu(tf.matMul(layerNorm(middle), up)), down))
    })
  const dispose = () => [x, mask, qkv, o, up, down].forEach((value) => value.dispose())
  if (pass === "forward") return { ...single(forward, []), dispose }
  const weights = [qkv, o, up, down]
  const loss = () => tf.mean(tf.square(forward())) as tf.Scalar
  return {
    run: async (times) => {
      for (let i = 0; i < times; i++) {
        const { value, grads } = tf.variableGrads(loss, weights)
        await settle(value.data())
        await finish()
        value.dispose()
        for (const gradient of Object.values(grads)) gradient.dispose()
      }
    },
    result: () => lossAndGradient(loss, weights),
    dispose,
  }
}
