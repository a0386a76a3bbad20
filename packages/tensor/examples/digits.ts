// Learns to read digits: bun examples/digits.ts [epochs]
import { adamw, nn, openDevice, type Tensor } from "../src/index.ts"
import { makeDigits, side } from "./digit-images.ts"

const epochs = Number(process.argv[2] ?? 8)
const gpu = await openDevice()
console.log(`on ${gpu.adapter.name} (${gpu.adapter.kind})`)

const load = (count: number, seed: number) => {
  const { images, labels } = makeDigits(count, seed)
  return { images: gpu.tensor(images, [count, side * side]), labels: gpu.tensor(labels) }
}
const train = load(4000, 1)
const test = load(1000, 2)

const model = new nn.Sequential(
  new nn.Linear(gpu, side * side, 128, { seed: 3 }),
  (x) => x.relu(),
  new nn.Linear(gpu, 128, 10, { seed: 4 }),
)
const optimizer = adamw(Object.values(model.parameters), { lr: 2e-3 })

// Both are recorded at their first call and replayed from then on. The images stay on the GPU; a batch is a list of rows.
const step = nn.trainStep(optimizer, (ids: Tensor) =>
  model.forward(train.images.indexSelect(0, ids)).crossEntropy(train.labels.indexSelect(0, ids)),
)
const accuracy = gpu.compile(() => model.forward(test.images).argMax(1).equal(test.labels).mean())

for (let epoch = 1; epoch <= epochs; epoch++) {
  using _scope = gpu.scope()
  const start = performance.now()
  let loss: Tensor | undefined
  for (const batch of nn.shuffledBatches(4000, 100, { seed: 5, epoch })) loss = step(gpu.tensor(batch))
  const [last, right] = await gpu.readAll([loss!, accuracy()])
  const seconds = ((performance.now() - start) / 1000).toFixed(1)
  console.log(`epoch ${epoch}: loss ${last![0]!.toFixed(3)}, accuracy ${(100 * right![0]!).toFixed(1)} %, ${seconds} s`)
}
process.exit(0)
