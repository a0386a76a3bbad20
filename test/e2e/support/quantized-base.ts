import { characters } from "./model.ts"

/** A GGUF file of a small Llama with random weights of Q8_0, Q4_0 and Q4_1, and a token for each character. */

/** `enum ggml_type`, bytes of a block of 32 elements, and where in it the halves lie that scale it. */
const types = {
  Q4_0: { id: 2, bytes: 18, halves: [0] },
  Q4_1: { id: 3, bytes: 20, halves: [0, 2] },
  Q8_0: { id: 8, bytes: 34, halves: [0] },
} as const
type Type = keyof typeof types

interface Tensor {
  readonly name: string
  readonly shape: readonly [number] | readonly [rows: number, columns: number]
  readonly type: number
  readonly data: Uint8Array
}

/** Random bits, but for scales of about a thousandth. */
const matrix = (name: string, rows: number, columns: number, type: Type): Tensor => {
  const { id, bytes, halves } = types[type]
  let state = rows * columns + name.length
  const next = () => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) >>> 24
  const data = Uint8Array.from({ length: ((rows * columns) / 32) * bytes }, next)
  for (let block = 0; block < data.length; block += bytes)
    for (const at of halves) data.set([next(), 0x14 | (next() & 0x81)], block + at)
  return { name: `${name}.weight`, shape: [rows, columns], type: id, data }
}

const norm = (name: string): Tensor => {
  const data = new Uint8Array(new Float32Array(width).fill(1).buffer)
  return { name: `${name}.weight`, shape: [width], type: 0, data }
}

const width = 64
const inner = 96
const vocabulary = ["<s>", "</s>", ...characters]

const tensors: ReadonlyArray<Tensor> = [
  matrix("token_embd", vocabulary.length, width, "Q8_0"),
  norm("output_norm"),
  ...[0, 1].flatMap((layer) => {
    const at = `blk.${layer}`
    return [
      norm(`${at}.attn_norm`),
      matrix(`${at}.attn_q`, width, width, "Q4_0"),
      matrix(`${at}.attn_k`, width / 2, width, "Q4_0"),
      matrix(`${at}.attn_v`, width / 2, width, "Q8_0"),
      matrix(`${at}.attn_output`, width, width, "Q4_1"),
      norm(`${at}.ffn_norm`),
      matrix(`${at}.ffn_gate`, inner, width, "Q4_0"),
      matrix(`${at}.ffn_up`, inner, width, "Q4_0"),
      matrix(`${at}.ffn_down`, width, inner, "Q4_1"),
    ]
  }),
]

const bytes = (view: ArrayBufferView<ArrayBuffer>) => new Uint8Array(view.buffer)
const u32 = (value: number) => bytes(Uint32Array.of(value))
const u64 = (value: number) => bytes(BigUint64Array.of(BigInt(value)))
const string = (value: string) => {
  const text = new TextEncoder().encode(value)
  return Buffer.concat([u64(text.length), text])
}

/** Values with their `enum gguf_metadata_value_type`. */
const integer = (value: number) => Buffer.concat([u32(4), u32(value)])
const float = (value: number) => Buffer.concat([u32(6), bytes(Float32Array.of(value))])
const text = (value: string) => Buffer.concat([u32(8), string(value)])
const texts = (values: ReadonlyArray<string>) =>
  Buffer.concat([u32(9), u32(8), u64(values.length), ...values.map(string)])

const metadata: Readonly<Record<string, Buffer>> = {
  "general.architecture": text("llama"),
  "llama.context_length": integer(64),
  "llama.embedding_length": integer(width),
  "llama.feed_forward_length": integer(inner),
  "llama.block_count": integer(2),
  "llama.attention.head_count": integer(2),
  "llama.attention.head_count_kv": integer(1),
  "llama.attention.layer_norm_rms_epsilon": float(1e-6),
  "tokenizer.ggml.model": text("gpt2"),
  "tokenizer.ggml.pre": text("gpt-2"),
  "tokenizer.ggml.tokens": texts(vocabulary),
  "tokenizer.ggml.merges": texts([]),
  "tokenizer.ggml.bos_token_id": integer(0),
  "tokenizer.ggml.eos_token_id": integer(1),
}

const alignment = 32
const padded = (part: Uint8Array) => Buffer.concat([part], Math.ceil(part.length / alignment) * alignment)

/** The file, by https://github.com/ggml-org/ggml/blob/master/docs/gguf.md */
export const quantizedBase = (): Uint8Array => {
  let offset = 0
  const infos = tensors.map(({ name, shape, type, data }) => {
    const info = [string(name), u32(shape.length), ...shape.toReversed().map(u64), u32(type), u64(offset)]
    offset += padded(data).length
    return Buffer.concat(info)
  })
  const header = Buffer.concat([
    new TextEncoder().encode("GGUF"),
    u32(3),
    u64(tensors.length),
    u64(Object.keys(metadata).length),
    ...Object.entries(metadata).flatMap(([key, value]) => [string(key), value]),
    ...infos,
  ])
  return Buffer.concat([padded(header), ...tensors.map(({ data }) => padded(data))])
}
