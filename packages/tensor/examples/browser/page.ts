/// <reference lib="dom" />
// Serve it with `bun examples/browser/index.html`, or bundle it with `bun build examples/browser/index.html --outdir site`.
import { adamw, nn, openDevice, type Tensor } from "../../src/index.ts"
import { makeDigits, side } from "../digit-images.ts"

const status = document.querySelector<HTMLElement>("#status")!
const contextOf = (id: string): CanvasRenderingContext2D =>
  document.querySelector<HTMLCanvasElement>(`#${id}`)!.getContext("2d")!

/** Draws the losses so far as a line from the left to the right edge. */
const drawLosses = (losses: readonly number[]): void => {
  const context = contextOf("loss")
  const { width, height } = context.canvas
  context.clearRect(0, 0, width, height)
  context.beginPath()
  losses.forEach((loss, i) =>
    context.lineTo((i / Math.max(1, losses.length - 1)) * width, height - (Math.min(loss, 2.5) / 2.5) * height),
  )
  context.strokeStyle = "#06c"
  context.lineWidth = 2
  context.stroke()
}

/** Draws images in a row, what they were taken for below. */
const drawSamples = (images: ArrayLike<number>, read: ArrayLike<number>, labels: ArrayLike<number>): void => {
  const context = contextOf("samples")
  context.clearRect(0, 0, context.canvas.width, context.canvas.height)
  context.font = "24px system-ui"
  context.textAlign = "center"
  for (let n = 0; n < 10; n++) {
    const pixels = context.createImageData(side, side)
    for (let i = 0; i < side * side; i++) {
      const gray = 255 * (1 - images[n * side * side + i]!)
      pixels.data.set([gray, gray, gray, 255], 4 * i)
    }
    const small = new OffscreenCanvas(side, side)
    small.getContext("2d")!.putImageData(pixels, 0, 0)
    context.drawImage(small, n * 56, 0, 56, 56)
    context.fillStyle = read[n] === labels[n] ? "#080" : "#c00"
    context.fillText(String(read[n]), n * 56 + 28, 92)
  }
}

const train = async (): Promise<void> => {
  const gpu = await openDevice()
  const load = (count: number, seed: number) => {
    const { images, labels } = makeDigits(count, seed)
    return {
      images: gpu.tensor(images, [count, side * side]),
      labels: gpu.tensor(labels),
      shown: images.slice(0, 10 * side * side),
    }
  }
  const [training, unseen] = [load(4000, 1), load(500, 2)]
  const model = new nn.Sequential(
    new nn.Linear(gpu, side * side, 128, { seed: 3 }),
    (x) => x.relu(),
    new nn.Linear(gpu, 128, 10, { seed: 4 }),
  )
  const optimizer = adamw(Object.values(model.parameters), { lr: 2e-3 })
  const step = nn.trainStep(optimizer, (ids: Tensor) =>
    model.forward(training.images.indexSelect(0, ids)).crossEntropy(training.labels.indexSelect(0, ids)),
  )
  const read = gpu.compile(() => model.forward(unseen.images).argMax(1))

  const losses: number[] = []
  const epochs = Number(new URLSearchParams(location.search).get("epochs") ?? 8)
  for (let epoch = 1; epoch <= epochs; epoch++) {
    for (const batch of nn.shuffledBatches(4000, 100, { seed: 5, epoch })) {
      using _scope = gpu.scope()
      losses.push(await step(gpu.tensor(batch)).item())
      drawLosses(losses)
    }
    using _scope = gpu.scope()
    const [answers, labels] = await gpu.readAll([read(), unseen.labels])
    const right = answers!.filter((answer: number, i: number) => answer === labels![i]).length
    drawSamples(unseen.shown, answers!, labels!)
    status.textContent = `On ${gpu.adapter.name}: epoch ${epoch}, loss ${losses.at(-1)!.toFixed(3)}, reads ${((100 * right) / 500).toFixed(1)} % of unseen digits`
  }
}

const fail = (error: unknown): void => {
  status.textContent = error instanceof Error ? error.message : String(error)
}
void train()
  .catch(fail)
  .finally(() => {
    status.dataset["outcome"] = "done"
  })
