// Compiled against the packed declarations.
import { adamw, nn, openDevice, valueAndGrad, type Gpu, type Tensor } from "@rlpt/tensor"

export const gpu: Gpu = await openDevice({ memoryLimit: 2 ** 20 })
export const queue: object = gpu.device.queue
const w = gpu.normal([4, 2], { seed: 0 })
const optimizer = adamw([w], { lr: 1e-3 })
const step = gpu.compile((x: Tensor, y: Tensor) =>
  optimizer.step(valueAndGrad((w) => x.matmul(w).crossEntropy(y), [w])),
)
export const loss: number = await step(gpu.ones([3, 4]), gpu.tensor(Int32Array.of(0, 1, 0))).item()
export const model: nn.Module = new nn.Linear(gpu, 4, 2, { seed: 1 })
// @ts-expect-error: a class is no number
export const wrong: Tensor = w.crossEntropy(1)
using scope = gpu.scope()
export const kept: Tensor = scope.keep(w.add(1))
