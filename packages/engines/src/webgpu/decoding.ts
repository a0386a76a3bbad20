import type { SamplingParams } from "@rlpt/core"
import type { Model } from "@rlpt/models"
import {
  advanceDecoding,
  embedding,
  logProbsOf,
  sample,
  type Compiled,
  type DecodeState,
  type Gpu,
  type Tensor,
} from "@rlpt/tensor"
import { packSequences } from "@rlpt/models"
import { bucket, padSpans } from "./batch.ts"

/** One completion to be sampled. */
export interface Job {
  readonly promptTokens: Int32Array
  /** Counter of its random numbers: seed, row of the data set, number of the sample. */
  readonly key: readonly [seed: number, row: number, sample: number]
}

export interface Completion {
  readonly tokens: Int32Array
  readonly logProbs: Float32Array
  readonly stopped: boolean
}

/** Tokens that are decoded between looks at which completions are finished. */
const stepsPerLook = 8

/** What a decoder of one size needs on the GPU; reused for every batch that fits. */
interface Buffers {
  readonly state: DecodeState
  readonly cache: readonly Tensor[]
  /** First prompt's row in the cache is 0; completion b starts at promptRows + b · capacity. */
  readonly promptRows: number
  readonly batch: number
  readonly capacity: number
}

interface Programs {
  readonly prefill: Compiled<readonly Tensor[], Record<string, Tensor>>
  readonly decode: Compiled<readonly Tensor[], Record<string, Tensor>>
}

/**
 * Samples completions side by side. Each different prompt is computed once, into rows of the key-value cache that all
 * its completions read; then one recorded program per token runs, with the state of every completion on the GPU.
 */
export class Decoding {
  readonly #gpu: Gpu
  readonly #model: Model
  readonly #programs = new Map<string, Programs>()
  readonly #stops = new Map<string, Tensor>()
  #buffers: Buffers | undefined

  constructor(gpu: Gpu, model: Model) {
    this.#gpu = gpu
    this.#model = model
  }

  /** One completion per job, in their order. `stopTokens` end a completion and belong to it. */
  async run(jobs: ReadonlyArray<Job>, sampling: SamplingParams, stopTokens: ReadonlyArray<number>) {
    const prompts = distinctPrompts(jobs)
    const packed = packSequences(prompts.list)
    const limit = sampling.maxCompletionLength
    const buffers = this.#reserve(bucket(packed.tokens.length), jobs.length, limit)
    const { prefill, decode } = this.#record(buffers, sampling, stopTokens)

    this.#start(buffers, jobs, prompts, limit)
    const inputs = this.#promptInputs(buffers, packed, jobs, prompts)
    prefill(...inputs)
    for (const input of inputs) input.dispose()
    for (let step = 1; step < limit; step++) {
      if (step % stepsPerLook === 0 && (await this.#finished(buffers, jobs.length))) break
      decode()
    }
    return this.#collect(buffers, jobs.length)
  }

  /** Buffers of at least these sizes. New ones make the recorded programs, which read the old, useless. */
  #reserve(promptRows: number, jobs: number, capacity: number): Buffers {
    const held = this.#buffers
    if (held && held.promptRows >= promptRows && held.batch >= jobs && held.capacity === capacity) return held
    this.#release()
    const gpu = this.#gpu
    const { numHiddenLayers, numKeyValueHeads, headDim } = this.#model.config
    const batch = Math.max(decoderSize(jobs), held?.capacity === capacity ? held.batch : 0)
    const rows = Math.max(promptRows, held?.capacity === capacity ? held.promptRows : 0)
    const integers = (shape: readonly number[]) => gpu.zeros(shape, "i32", "decoding")
    const state: DecodeState = {
      tokens: integers([batch]),
      positions: integers([batch]),
      rows: integers([batch]),
      spans: integers([batch, 4]),
      keys: gpu.zeros([batch, 4], "u32", "decoding"),
      lengths: integers([batch]),
      limits: integers([batch]),
      completions: integers([batch, capacity]),
      logProbs: gpu.zeros([batch, capacity], "f32", "decoding"),
    }
    const width = 2 * numKeyValueHeads * headDim
    const cache = Array.from({ length: numHiddenLayers }, () =>
      gpu.zeros([rows + batch * capacity, width], "f32", "kv-cache"),
    )
    this.#buffers = { state, cache, promptRows: rows, batch, capacity }
    return this.#buffers
  }

  /** Frees buffers, and the programs recorded over them. */
  #release(): void {
    for (const { prefill, decode } of this.#programs.values()) {
      prefill.dispose()
      decode.dispose()
    }
    this.#programs.clear()
    if (!this.#buffers) return
    for (const tensor of [...Object.values(this.#buffers.state), ...this.#buffers.cache]) tensor.dispose()
    this.#buffers = undefined
  }

  #record(buffers: Buffers, sampling: SamplingParams, stopTokens: ReadonlyArray<number>): Programs {
    const { temperature, topK, topP, minP } = sampling
    const key = JSON.stringify([temperature, topK, topP, minP, stopTokens])
    const known = this.#programs.get(key)
    if (known) return known
    const { decoder, parameters } = this.#model
    const { state, cache } = buffers
    const stops = this.#stopTokens(stopTokens)
    const draw = (hidden: Tensor) => {
      const logits = decoder.logits(parameters, hidden)
      const next = sample(logits, state.keys, { temperature, topK, topP, minP })
      const logProbs = logProbsOf(logits, next, { temperature: temperature === 0 ? 1 : temperature })
      advanceDecoding(state, next, logProbs, stops)
      return {}
    }
    const programs: Programs = {
      prefill: this.#gpu.compile((...[tokens, positions, spans, rows, last]: readonly Tensor[]) => {
        const input = { tokens: tokens!, positions: positions!, spans: spans! }
        return draw(embedding(decoder.hidden(parameters, input, { cache: { layers: cache, rows: rows! } }), last!))
      }),
      decode: this.#gpu.compile(() =>
        draw(decoder.hidden(parameters, state, { cache: { layers: cache, rows: state.rows }, decoding: true })),
      ),
    }
    this.#programs.set(key, programs)
    return programs
  }

  /** The same list is uploaded once, whatever else changes between batches. */
  #stopTokens(list: ReadonlyArray<number>): Tensor {
    const key = list.join()
    const known = this.#stops.get(key)
    if (known) return known
    // An id that no token has stands for "no stop token": a buffer cannot be empty.
    const stops = this.#gpu.tensor(Int32Array.from(list.length > 0 ? list : [-1]), undefined, "decoding")
    this.#stops.set(key, stops)
    return stops
  }

  /** Every completion as it stands before its first token: at the last token of its prompt. */
  #start({ state, promptRows, batch, capacity }: Buffers, jobs: ReadonlyArray<Job>, prompts: Prompts, limit: number) {
    const positions = new Int32Array(batch)
    const rows = new Int32Array(batch)
    const spans = new Int32Array(4 * batch)
    const keys = new Uint32Array(4 * batch)
    const limits = new Int32Array(batch)
    for (let b = 0; b < batch; b++) {
      const own = promptRows + b * capacity
      const job = jobs[b]
      const prompt = job ? prompts.indexOf[b]! : 0
      const length = prompts.list[prompt]!.length
      positions[b] = length - 1
      rows[b] = own - 1
      spans.set([prompts.bases[prompt]!, length, own, length], 4 * b)
      if (job) keys.set([...job.key, 0], 4 * b)
      limits[b] = job ? limit : 0
    }
    const writes = {
      positions,
      rows,
      spans,
      keys,
      limits,
      tokens: new Int32Array(batch),
      lengths: new Int32Array(batch),
    }
    for (const [name, data] of Object.entries(writes)) this.#gpu.write(state[name as keyof typeof writes], data)
  }

  #promptInputs(
    { promptRows, batch }: Buffers,
    packed: ReturnType<typeof packSequences>,
    jobs: ReadonlyArray<Job>,
    prompts: Prompts,
  ): readonly Tensor[] {
    const rows = bucket(packed.tokens.length)
    const pad = (values: Int32Array, length: number) => {
      const padded = new Int32Array(length)
      padded.set(values)
      return padded
    }
    const spans = pad(packed.spans, 4 * rows)
    padSpans(spans, packed.tokens.length)
    const last = new Int32Array(batch)
    for (let b = 0; b < jobs.length; b++) {
      const prompt = prompts.indexOf[b]!
      last[b] = prompts.bases[prompt]! + prompts.list[prompt]!.length - 1
    }
    const ownRows = Int32Array.from({ length: rows }, (_, row) => Math.min(row, promptRows - 1))
    return [
      this.#gpu.tensor(pad(packed.tokens, rows), [rows], "decoding"),
      this.#gpu.tensor(pad(packed.positions, rows), [rows], "decoding"),
      this.#gpu.tensor(spans, [rows, 4], "decoding"),
      this.#gpu.tensor(ownRows, [rows], "decoding"),
      this.#gpu.tensor(last, [batch], "decoding"),
    ]
  }

  async #finished({ state }: Buffers, jobs: number): Promise<boolean> {
    const [lengths, limits] = await this.#gpu.readAll([state.lengths, state.limits])
    return lengths!.subarray(0, jobs).every((length, b) => length >= limits![b]!)
  }

  async #collect({ state, capacity }: Buffers, jobs: number): Promise<ReadonlyArray<Completion>> {
    const { lengths, limits, completions, logProbs } = state
    const [length, limit, tokens, logs] = await this.#gpu.readAll([lengths, limits, completions, logProbs])
    return Array.from({ length: jobs }, (_, b) => {
      const [begin, end] = [b * capacity, b * capacity + length![b]!]
      return {
        tokens: (tokens as Int32Array).slice(begin, end),
        logProbs: (logs as Float32Array).slice(begin, end),
        stopped: limit![b]! < 0,
      }
    })
  }
}

interface Prompts {
  readonly list: ReadonlyArray<Int32Array>
  /** First cache row of each. */
  readonly bases: ReadonlyArray<number>
  /** Prompt of each job. */
  readonly indexOf: ReadonlyArray<number>
}

const distinctPrompts = (jobs: ReadonlyArray<Job>): Prompts => {
  const seen = new Map<string, number>()
  const list: Int32Array[] = []
  const bases: number[] = []
  let rows = 0
  const indexOf = jobs.map(({ promptTokens }) => {
    const key = promptTokens.join()
    const known = seen.get(key)
    if (known !== undefined) return known
    seen.set(key, list.length)
    list.push(promptTokens)
    bases.push(rows)
    rows += promptTokens.length
    return list.length - 1
  })
  return { list, bases, indexOf }
}

/** Completions that a decoder of few sizes has room for: one alone pays for no rows beside its own. */
const decoderSize = (count: number): number => {
  if (count > 64) return bucket(count)
  return count > 4 ? Math.ceil(count / 8) * 8 : 2 ** Math.ceil(Math.log2(count))
}
