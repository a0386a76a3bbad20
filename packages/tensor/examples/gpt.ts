// A character-level GPT that learns a text, by default this file: bun examples/gpt.ts [steps] [file.txt]
import { readFile } from "node:fs/promises"
import {
  adamw,
  attention,
  linear,
  nn,
  openDevice,
  rope,
  ropeTable,
  sample,
  swiglu,
  type Gpu,
  type Tensor,
} from "../src/index.ts"

const steps = Number(process.argv[2] ?? 300)
const text = await readFile(process.argv[3] ?? new URL(import.meta.url), "utf8")
const alphabet = [...new Set(text)].sort()
const ids = Int32Array.from(text, (character) => alphabet.indexOf(character))

const [batch, context, width, layers] = [16, 64, 64, 2]
const heads = { heads: 4, kvHeads: 4, headDim: 16 }

/** One layer: attention, then a gated feed-forward, each added to what came in. */
class Block extends nn.Module<[x: Tensor, at: Places]> {
  readonly attentionNorm: nn.RMSNorm
  readonly qkv: nn.Linear
  readonly out: nn.Linear
  readonly feedNorm: nn.RMSNorm
  readonly gateUp: nn.Linear
  readonly down: nn.Linear

  constructor(gpu: Gpu, seed: number) {
    super()
    const matrix = (from: number, to: number, i: number) =>
      new nn.Linear(gpu, from, to, { seed: seed + i, bias: false })
    this.attentionNorm = new nn.RMSNorm(gpu, width)
    this.qkv = matrix(width, 3 * width, 1)
    this.out = matrix(width, width, 2)
    this.feedNorm = new nn.RMSNorm(gpu, width)
    this.gateUp = matrix(width, 8 * width, 3)
    this.down = matrix(4 * width, width, 4)
  }

  forward(x: Tensor, { table, positions, spans }: Places): Tensor {
    const { q, kv } = rope(this.qkv.forward(this.attentionNorm.forward(x)), table, positions, heads)
    const seen = linear(attention(q, kv, spans, heads), this.out.weight, { residual: x })
    return linear(swiglu(this.gateUp.forward(this.feedNorm.forward(seen))), this.down.weight, { residual: seen })
  }
}

/** Where the rows of a packed batch stand in their sequences. */
interface Places {
  readonly table: Tensor
  readonly positions: Tensor
  readonly spans: Tensor
}

class Gpt extends nn.Module<[tokens: Tensor, at: Places]> {
  readonly embedding: nn.Embedding
  readonly blocks: readonly Block[]
  readonly norm: nn.RMSNorm
  readonly head: nn.Linear

  constructor(gpu: Gpu) {
    super()
    this.embedding = new nn.Embedding(gpu, alphabet.length, width, { seed: 1, std: 0.5 })
    this.blocks = Array.from({ length: layers }, (_, i) => new Block(gpu, 100 * (i + 1)))
    this.norm = new nn.RMSNorm(gpu, width)
    this.head = new nn.Linear(gpu, width, alphabet.length, { seed: 2, bias: false })
  }

  forward(tokens: Tensor, at: Places): Tensor {
    const hidden = this.blocks.reduce((x, block) => block.forward(x, at), this.embedding.forward(tokens))
    return this.head.forward(this.norm.forward(hidden))
  }
}

const gpu = await openDevice()
const table = ropeTable(gpu, { positions: context, headDim: heads.headDim, theta: 10_000 })

/** `rows` sequences of `context` tokens, one after another: each row sees itself and those before it in its sequence. */
const placesOf = (rows: number): Places => {
  const spans = new Int32Array(rows * context * 4)
  for (let i = 0; i < rows * context; i++) spans.set([0, 0, i - (i % context), (i % context) + 1], 4 * i)
  const positions = Int32Array.from({ length: rows * context }, (_, i) => i % context)
  return { table, positions: gpu.tensor(positions), spans: gpu.tensor(spans, [rows * context, 4]) }
}

const model = new Gpt(gpu)
console.log(`${model.parameterCount} parameters, ${text.length} characters, on ${gpu.adapter.name}`)
const optimizer = adamw(Object.values(model.parameters), { lr: 3e-3, weightDecay: 0.1 })
const training = placesOf(batch)
const step = nn.trainStep(optimizer, (tokens: Tensor, targets: Tensor) =>
  model.forward(tokens, training).crossEntropy(targets),
)

// Windows of the text, in an order that the seed fixes.
const starts = function* () {
  for (let epoch = 0; ; epoch++) yield* nn.shuffledBatches(ids.length - context, batch, { seed: 3, epoch })
}
const windows = starts()
for (let i = 1; i <= steps; i++) {
  using _scope = gpu.scope()
  const from = [...(windows.next().value as Int32Array)]
  const [tokens, targets] = [0, 1].map((shift) =>
    from.flatMap((at) => [...ids.subarray(at + shift, at + shift + context)]),
  )
  const loss = step(gpu.tensor(Int32Array.from(tokens!)), gpu.tensor(Int32Array.from(targets!)))
  if (i % 50 === 0 || i === 1) console.log(`step ${i}: loss ${(await loss.item()).toFixed(3)}`)
}

// One token at a time, over a window that slides when it is full.
const single = placesOf(1)
const next = gpu.compile((tokens: Tensor, last: Tensor, key: Tensor) =>
  sample(model.forward(tokens, single).indexSelect(0, last), key, { temperature: 0.7, topK: 0, topP: 1, minP: 0 }),
)
const written = [...ids.subarray(0, 8)]
for (let i = 0; i < 200; i++) {
  using _scope = gpu.scope()
  const window = written.slice(-context)
  const tokens = Int32Array.from({ length: context }, (_, k) => window[k] ?? 0)
  const inputs = [
    gpu.tensor(tokens),
    gpu.tensor(new Int32Array([window.length - 1])),
    gpu.tensor(new Uint32Array([4, 0, 0, i]), [1, 4]),
  ]
  written.push(await next(...(inputs as [Tensor, Tensor, Tensor])).item())
}
console.log(written.map((id) => alphabet[id]).join(""))
process.exit(0)
