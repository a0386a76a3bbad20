// What somebody writes who has installed @rlpt/tensor and nothing else: learns a linear function from examples.
import { adamw, nn, openDevice } from "@rlpt/tensor"

export const train = async () => {
  const gpu = await openDevice()
  const x = gpu.normal([64, 8], { seed: 1 })
  const y = x.matmul(gpu.normal([8, 1], { seed: 2 }))
  const model = new nn.Sequential(
    new nn.Linear(gpu, 8, 16, { seed: 3 }),
    (h) => h.gelu(),
    new nn.Linear(gpu, 16, 1, { seed: 4 }),
  )
  const optimizer = adamw(Object.values(model.parameters), { lr: 2e-2 })
  const step = nn.trainStep(optimizer, (input, target) => model.forward(input).sub(target).square().mean())
  const losses = []
  for (let i = 0; i < 50; i++) {
    const scope = gpu.scope()
    losses.push(await step(x, y).item())
    scope.dispose()
  }
  return { adapter: gpu.adapter.kind, losses }
}
