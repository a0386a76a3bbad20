import { attention, layerNorm, openDevice, splitHeads, valueAndGrad, type Gpu, type Tensor } from "@rlpt/tensor"
import manifest from "@rlpt/tensor/package.json" with { type: "json" }
import type { Contender, Job } from "../contender.ts"
import { settle } from "../wait.ts"
import {
  blockData,
  blockWeights,
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

/** Ours: functions compiled to recorded programs. */
export const openRlpt = async (): Promise<Contender> => {
  const gpu = await openDevice()
  const tensor = ({ data, shape }: Operand) => gpu.tensor(data, shape)
  return {
    name: "@rlpt/tensor",
    version: manifest.version,
    prepare: async (workload) => {
      switch (workload.kind) {
        case "matmul":
          return matmul(gpu, workload, tensor)
        case "softmax":
        case "layerNorm":
          return rows(gpu, workload, tensor)
        case "mlp":
          return mlp(gpu, workload, tensor)
        case "block":
          return block(gpu, workload, tensor)
      }
    },
  }
}

type MakeTensor = (operand: Operand) => Tensor

/** Waits as all contenders do. */
const finish = (gpu: Gpu): Promise<undefined> => settle(gpu.device.queue.onSubmittedWorkDone())

const single = (gpu: Gpu, compute: () => Tensor, operands: readonly Tensor[]): Job => {
  const compiled = gpu.compile(compute)
  return {
    run: async (times) => {
      for (let i = 0; i < times; i++) compiled().dispose()
      await finish(gpu)
    },
    result: async () => {
      const value = compiled()
      const data = await value.data()
      value.dispose()
      return data
    },
    dispose: () => {
      compiled.dispose()
      for (const operand of operands) operand.dispose()
    },
  }
}

const matmul = (gpu: Gpu, workload: Matmul, tensor: MakeTensor): Job => {
  const data = matmulData(workload)
  const [a, b] = [tensor(data.a), tensor(data.b)]
  const options = { transposeA: workload.layout === "tn", transposeB: workload.layout === "nt" }
  return single(gpu, () => a.matmul(b, options), [a, b])
}

const rows = (gpu: Gpu, workload: Rows, tensor: MakeTensor): Job => {
  const x = tensor(rowsData(workload))
  const [one, zero] = [gpu.ones([workload.columns]), gpu.zeros([workload.columns])]
  const compute = () => (workload.kind === "softmax" ? x.softmax() : layerNorm(x, one, zero, epsilon))
  return single(gpu, compute, [x, one, zero])
}

const mlp = (gpu: Gpu, workload: Mlp, tensor: MakeTensor): Job => {
  const data = mlpData(workload)
  const [x, y, w1, w2] = [tensor(data.x), tensor(data.y), tensor(data.w1), tensor(data.w2)]
  const weights = [w1, w2]
  const lossAndGradients = () =>
    valueAndGrad((first, second) => x.matmul(first!).geluTanh().matmul(second!).sub(y).square().mean(), weights)
  const gradients = gpu.compile(() => {
    const { value, grads } = lossAndGradients()
    return [value, grads[0]!]
  })
  const step = gpu.compile(() => {
    const { value, grads } = lossAndGradients()
    grads.forEach((gradient, i) => gpu.accumulate(weights[i]!, gradient.mul(-learningRate)))
    return value
  })
  return {
    run: async (times) => {
      for (let i = 0; i < times; i++) {
        const loss = step()
        await settle(loss.data())
        loss.dispose()
      }
    },
    result: async () => {
      const [loss, gradient] = gradients() as [Tensor, Tensor]
      const numbers = [...(await loss.data()), ...(await gradient.data())]
      loss.dispose()
      gradient.dispose()
      return numbers
    },
    dispose: () => {
      gradients.dispose()
      step.dispose()
      for (const each of [x, y, w1, w2]) each.dispose()
    },
  }
}

const block = (gpu: Gpu, workload: Block, tensor: MakeTensor): Job => {
  const { batch, tokens, width, heads: count, pass } = workload
  const data = blockData(workload)
  const x = tensor(data.x)
  const [one, zero] = [gpu.ones([width]), gpu.zeros([width])]
  const weights = blockWeights.map((name) => tensor(data[name]))
  // Row n is token n mod tokens of its sequence and sees the keys up to itself.
  const spans = Int32Array.from({ length: batch * tokens * 4 }, (_, i) => {
    const row = Math.floor(i / 4)
    return [0, 0, row - (row % tokens), (row % tokens) + 1][i % 4]!
  })
  const keys = gpu.tensor(spans, [batch * tokens, 4])
  const heads = { heads: count, kvHeads: count, headDim: width / count }
  const forward = (qkv: Tensor, o: Tensor, up: Tensor, down: Tensor): Tensor => {
    const { q, kv } = splitHeads(layerNorm(x, one, zero, epsilon).matmul(qkv), heads)
    const middle = attention(q, kv, keys, heads).matmul(o).add(x)
    return layerNorm(middle, one, zero, epsilon).matmul(up).geluTanh().matmul(down).add(middle)
  }
  const operands = [x, one, zero, keys, ...weights]
  const compute = () => forward(...(weights as [Tensor, Tensor, Tensor, Tensor]))
  if (pass === "forward") return single(gpu, compute, operands)
  const step = gpu.compile(() => {
    const { value, grads } = valueAndGrad(
      (...w) =>
        forward(...(w as [Tensor, Tensor, Tensor, Tensor]))
          .square()
          .mean(),
      weights,
    )
    return [value, ...grads]
  })
  return {
    run: async (times) => {
      for (let i = 0; i < times; i++) {
        const [loss, ...grads] = step() as Tensor[]
        await settle(loss!.data())
        await finish(gpu)
        for (const each of [loss!, ...grads]) each.dispose()
      }
    },
    result: async () => {
      const [loss, first, ...rest] = step() as Tensor[]
      const numbers = [...(await loss!.data()), ...(await first!.data())]
      for (const each of [loss!, first!, ...rest]) each.dispose()
      return numbers
    },
    dispose: () => {
      step.dispose()
      for (const operand of operands) operand.dispose()
    },
  }
}
