import { readFile } from "node:fs/promises"
import * as jax from "@jax-js/jax"
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

const { numpy: np, nn, jit, valueAndGrad } = jax
type Value = jax.Array

const array = ({ data, shape }: Operand): Value => np.array(data).reshape(shape)

/** Waits for values, which are then freed. */
const finish = async (values: readonly Value[]): Promise<void> => {
  for (const value of values) await settle(value.blockUntilReady())
  for (const value of values) value.dispose()
}

/** jax-js: functions of arrays that consume their arguments, compiled by `jit`. */
export const openJax = async (): Promise<Contender> => {
  const devices = await jax.init()
  if (!devices.includes("webgpu")) throw new Error("jax-js finds no WebGPU")
  jax.defaultDevice("webgpu")
  const manifest = new URL("../package.json", import.meta.resolve("@jax-js/jax"))
  return {
    name: "jax-js",
    version: String(JSON.parse(await readFile(manifest, "utf8")).version),
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

const single = (compute: () => Value, operands: readonly Value[]): Job => ({
  run: (times) => finish(Array.from({ length: times }, compute)),
  result: async () => settle(compute().data()) as Promise<Float32Array>,
  dispose: () => operands.forEach((operand) => operand.dispose()),
})

const matmul = (workload: Matmul): Job => {
  const data = matmulData(workload)
  const [a, b] = [array(data.a), array(data.b)]
  const product = jit((x: Value, y: Value) => {
    if (workload.layout === "tn") return np.matmul(x.transpose(), y)
    return np.matmul(x, workload.layout === "nt" ? y.transpose() : y)
  })
  return single(() => product(a.ref, b.ref), [a, b])
}

const layerNorm = (x: Value): Value => {
  const distance = x.sub(np.mean(x.ref, -1, { keepdims: true }))
  const variance = np.mean(np.square(distance.ref), -1, { keepdims: true })
  return distance.div(np.sqrt(variance.add(epsilon)))
}

const rows = (workload: Rows): Job => {
  const x = array(rowsData(workload))
  const compute = jit((y: Value) => (workload.kind === "softmax" ? nn.softmax(y) : layerNorm(y)))
  return single(() => compute(x.ref), [x])
}

const mlp = (workload: Mlp): Job => {
  const data = mlpData(workload)
  const [x, y] = [array(data.x), array(data.y)]
  let weights = { w1: array(data.w1), w2: array(data.w2) }
  const loss = (w: typeof weights, input: Value, wanted: Value): Value =>
    np.mean(np.square(np.matmul(nn.gelu(np.matmul(input, w.w1)), w.w2).sub(wanted)))
  const gradients = jit((w: typeof weights, input: Value, wanted: Value) => valueAndGrad(loss)(w, input, wanted))
  const step = jit((w: typeof weights, input: Value, wanted: Value) => {
    const [value, g] = valueAndGrad(loss)({ w1: w.w1.ref, w2: w.w2.ref }, input, wanted)
    return [{ w1: w.w1.sub(g.w1.mul(learningRate)), w2: w.w2.sub(g.w2.mul(learningRate)) }, value] as const
  })
  return {
    run: async (times) => {
      for (let i = 0; i < times; i++) {
        const [updated, value] = step(weights, x.ref, y.ref)
        weights = updated as typeof weights
        await settle((value as Value).data())
      }
    },
    result: async () => {
      const [value, g] = gradients({ w1: weights.w1.ref, w2: weights.w2.ref }, x.ref, y.ref) as [Value, typeof weights]
      g.w2.dispose()
      return [...((await settle(value.data())) as Float32Array), ...((await settle(g.w1.data())) as Float32Array)]
    },
    dispose: () => [x, y, weights.w1, weights.w2].forEach((value) => value.dispose()),
  }
}

type BlockWeights = Record<(typeof blockWeights)[number], Value>

const block = (workload: Block): Job => {
  const { batch, tokens, width, heads, pass } = workload
  const headDim = width / heads
  const data = blockData(workload)
  const x = array(data.x)
  const mask = array({ data: causalMask(tokens), shape: [1, tokens, tokens] })
  const weights = Object.fromEntries(blockWeights.map((name) => [name, array(data[name])])) as BlockWeights
  const forward = (w: BlockWeights, input: Value, hidden: Value): Value => {
    const qkv = np
      .matmul(layerNorm(input.ref), w.qkv)
      .reshape([batch, tokens, 3, heads, headDim])
      .transpose([2, 0, 3, 1, 4])
      .reshape([3, batch * heads, tokens, headDim])
    const [q, k, v] = np.split(qkv, 3, 0).map((part) => part.reshape([batch * heads, tokens, headDim])) as [
      Value,
      Value,
      Value,
    ]
    const scores = np
      .matmul(q, k.transpose([0, 2, 1]))
      .mul(1 / Math.sqrt(headDim))
      .add(hidden)
    const attended = np
      .matmul(nn.softmax(scores), v)
      .reshape([batch, heads, tokens, headDim])
      .transpose([0, 2, 1, 3])
      .reshape([batch * tokens, width])
    const middle = input.add(np.matmul(attended, w.o))
    return middle.ref.add(np.matmul(nn.gelu(np.matmul(layerNorm(middle), w.up)), w.down))
  }
  const kept = (): BlockWeights =>
    Object.fromEntries(blockWeights.map((name) => [name, weights[name].ref])) as BlockWeights
  const dispose = () => [x, mask, ...Object.values(weights)].forEach((value) => value.dispose())
  if (pass === "forward") {
    const compute = jit(forward)
    return { ...single(() => compute(kept(), x.ref, mask.ref), []), dispose }
  }
  const loss = (w: BlockWeights, input: Value, hidden: Value): Value => np.mean(np.square(forward(w, input, hidden)))
  const compute = jit((w: BlockWeights, input: Value, hidden: Value) => valueAndGrad(loss)(w, input, hidden))
  const step = () => compute(kept(), x.ref, mask.ref) as [Value, BlockWeights]
  return {
    run: async (times) => {
      for (let i = 0; i < times; i++) {
        const [value, g] = step()
        await settle(value.data())
        await finish(Object.values(g))
      }
    },
    result: async () => {
      const [value, { qkv, ...rest }] = step()
      for (const other of Object.values(rest)) other.dispose()
      return [...((await settle(value.data())) as Float32Array), ...((await settle(qkv.data())) as Float32Array)]
    },
    dispose,
  }
}
