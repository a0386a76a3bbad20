import {
  attention,
  checkpoint,
  embedding,
  glu,
  gluLinear,
  layerNorm,
  linear,
  qkNorm,
  random,
  rmsNorm,
  rope,
  ropeTable,
  softCap,
  splitHeads,
  tokenLogProbs,
  type Activation,
  type Gpu,
  type LogProbOptions,
  type Tensor,
  type TokenLogProbs,
} from "@rlpt/tensor"
import type { DecoderConfig } from "./config.ts"
import type { Head } from "./families/family.ts"
import type { LoraAdapter } from "./lora/adapter.ts"
import { activeModules, adaptedLinear, type DropoutKeys } from "./lora/linear.ts"
import { decoderParameters, type Parameters, type ParameterSpec } from "./parameters.ts"

/** N tokens of any number of sequences, one after the other. */
export interface PackedTokens {
  /** Token ids, i32 [N]. */
  readonly tokens: Tensor
  /** Position of each token in its sequence, i32 [N]. */
  readonly positions: Tensor
  /**
   * The keys that each token attends to, i32 [N, 4]: (prefixBase, prefixLength, ownBase, keyCount). Key p, 0 ≤ p <
   * keyCount, is key-value row prefixBase + p while p < prefixLength and ownBase + p − prefixLength from there on. A
   * layer with a sliding window sees the last of them.
   */
  readonly spans: Tensor
}

/** Key-value rows that outlive a forward pass, for decoding token by token. */
export interface KvCache {
  /** One tensor per layer, f32 [rows, 2·Hkv·d], written in place. */
  readonly layers: ReadonlyArray<Tensor>
  /** The row that each token's key and value go to, i32 [N]. */
  readonly rows: Tensor
}

/** What a forward pass does besides computing hidden states from tokens. */
export interface PassOptions {
  /** Writes keys and values there, and reads those of earlier tokens. */
  readonly cache?: KvCache
  /** Each token belongs to a sequence of its own, as in decoding. Makes attention faster, and changes no result. */
  readonly decoding?: boolean
  /** Keeps of each layer only what it hands on; a gradient computes the rest a second time, the same bits. */
  readonly gradientCheckpointing?: boolean
  /** u32 [2]: lets the adapter's dropout act, by this key. */
  readonly dropoutKey?: Tensor | undefined
}

/** The forward pass of a decoder-only transformer. It owns no weights: they are handed in by name. */
export interface Decoder {
  readonly config: DecoderConfig
  /** Whether the decoder has {@link logits}, or {@link classify} and {@link values}. */
  readonly kind: Head
  /** Names and shapes of the parameters that the functions below read. */
  readonly specs: ReadonlyArray<ParameterSpec>
  /** Adapters of its projections. They act where their parameters are handed in with the others. */
  readonly adapter: LoraAdapter | undefined
  /**
   * Last hidden states after the final norm, f32 [N, D]. Training and decoding run this one function: without a cache,
   * spans count rows among these N tokens; with one, they count the cache's rows.
   */
  readonly hidden: (parameters: Parameters, input: PackedTokens, pass?: PassOptions) => Tensor
  /** Weight of the language-model head, f32 [V, D]: the embedding table where the two are tied. */
  readonly head: (parameters: Parameters) => Tensor
  /** Logits of the next token, f32 [N, V], from hidden states [N, D]. To sample from; `logProbs` never makes them all. */
  readonly logits: (parameters: Parameters, hidden: Tensor) => Tensor
  /**
   * log softmax(logits / temperature) of one target per row, f32 [N], and the entropy, from hidden states [N, D] and
   * targets i32 [N]: bit for bit what `logProbsOf` makes of {@link logits}, with a gradient.
   */
  readonly logProbs: (parameters: Parameters, hidden: Tensor, targets: Tensor, options: LogProbOptions) => TokenLogProbs
  /**
   * Logits of the value or reward head's labels, f32 [N, L], from hidden states [N, D]. Those of a sequence are its last
   * token's.
   */
  readonly classify: (parameters: Parameters, hidden: Tensor) => Tensor
  /**
   * The value or reward head's estimates, f32 [N], from hidden states [N, D], if it has one label. The reward of a
   * sequence is that of its last token.
   */
  readonly values: (parameters: Parameters, hidden: Tensor) => Tensor
  /** Frees the RoPE tables. */
  readonly dispose: () => void
}

export interface DecoderOptions {
  /** What the decoder ends in. Default `"lm"`. */
  readonly head?: Head
  readonly adapter?: LoraAdapter | undefined
}

/** The decoder that `config` describes. */
export const createDecoder = (
  gpu: Gpu,
  config: DecoderConfig,
  { head: kind = "lm", adapter }: DecoderOptions = {},
): Decoder => {
  const { logitSoftCap } = config
  const heads = { heads: config.numAttentionHeads, kvHeads: config.numKeyValueHeads, headDim: config.headDim }
  const tables = Object.fromEntries(
    Object.entries(config.ropes).map(([name, angles]) => [
      name,
      ropeTable(gpu, { positions: config.contextLength, ...angles }),
    ]),
  )

  /** Norms and projections by the name of their parameters. */
  const modulesOf = (parameters: Parameters, dropoutKeys?: DropoutKeys) => {
    const norm = (name: string, x: Tensor): Tensor => {
      const weight = get(parameters, `${name}.weight`)
      return config.norm.kind === "layer"
        ? layerNorm(x, weight, get(parameters, `${name}.bias`), config.norm.eps)
        : rmsNorm(x, weight, config.norm.eps, config.norm.offset)
    }
    const project = (name: string, x: Tensor, hasBias: boolean, residual?: Tensor): Tensor => {
      const weight = get(parameters, `${name}.weight`)
      const options = { ...(hasBias && { bias: get(parameters, `${name}.bias`) }), ...(residual && { residual }) }
      const modules = activeModules(adapter, name, parameters)
      if (adapter === undefined || modules.length === 0) return linear(x, weight, options)
      return adaptedLinear(x, weight, options, modules, adapter.options, parameters, dropoutKeys)
    }
    /** glu of a projection, in the projection's kernel where nothing is added to it. */
    const gate = (name: string, x: Tensor, hasBias: boolean, activation: Activation): Tensor =>
      hasBias || activeModules(adapter, name, parameters).length > 0
        ? glu(project(name, x, hasBias), activation)
        : gluLinear(x, get(parameters, `${name}.weight`), activation)
    /** x + the projection of what a part of a layer made of it, in some families through a norm of its own. */
    const join = (x: Tensor, part: Tensor, projection: string, hasBias: boolean, postNorm: string): Tensor =>
      config.postNorms
        ? x.add(norm(postNorm, project(projection, part, hasBias)))
        : project(projection, part, hasBias, x)
    return { norm, project, gate, join }
  }

  const hidden: Decoder["hidden"] = (parameters, { tokens, positions, spans }, pass = {}) => {
    const { cache, decoding = false, gradientCheckpointing = false, dropoutKey } = pass
    const dropoutKeys = adapter && dropoutKey && dropoutKeysOf(adapter, dropoutKey)
    const { norm, project, gate, join } = modulesOf(parameters, dropoutKeys)

    const layer = (input: Tensor, i: number): Tensor => {
      const { rope: angles, window, attentionScale: scale } = config.layers[i]!
      const at = `layers.${i}`

      const { bias, outputBias, qkNorm: headNorm, softCap } = config.attention
      let qkv = project(`${at}.self_attn.qkv_proj`, norm(`${at}.input_layernorm`, input), bias)
      if (headNorm !== undefined) {
        const weight = (of: "q" | "k") => get(parameters, `${at}.self_attn.${of}_norm.weight`)
        qkv = qkNorm(qkv, weight("q"), weight("k"), { ...heads, ...headNorm })
      }
      const split = { ...heads, ...(cache && { cache: { cache: cache.layers[i]!, rows: cache.rows } }) }
      const { q, kv } = angles === undefined ? splitHeads(qkv, split) : rope(qkv, tables[angles]!, positions, split)
      const attended = attention(q, kv, spans, { ...heads, scale, window, softCap, alone: decoding })
      const x = join(input, attended, `${at}.self_attn.o_proj`, outputBias, `${at}.post_attention_layernorm`)

      const { activation, gated, bias: mlpBias } = config.feedForward
      const normed = norm(`${at}.pre_feedforward_layernorm`, x)
      const active = gated
        ? gate(`${at}.mlp.gate_up_proj`, normed, mlpBias, activation)
        : project(`${at}.mlp.up_proj`, normed, mlpBias)[activation]()
      return join(x, active, `${at}.mlp.down_proj`, mlpBias, `${at}.post_feedforward_layernorm`)
    }

    let x = embedding(get(parameters, "embed_tokens.weight"), tokens)
    if (config.embeddingScale !== 1) x = x.mul(config.embeddingScale)
    if (config.learnedPositions) x = x.add(embedding(get(parameters, "embed_positions.weight"), positions))

    for (const i of config.layers.keys()) {
      x = gradientCheckpointing ? checkpoint((input: Tensor) => layer(input, i))(x) : layer(x, i)
    }
    return norm("norm", x)
  }

  const head: Decoder["head"] = (parameters) =>
    get(parameters, config.tieWordEmbeddings ? "embed_tokens.weight" : "lm_head.weight")

  const classify: Decoder["classify"] = (parameters, x) => {
    const head = kind === "reward" ? "reward" : "value"
    return modulesOf(parameters).project(head, x, head === "value")
  }

  return {
    config,
    kind,
    specs: decoderParameters(config, kind),
    adapter,
    hidden,
    head,
    logits: (parameters, x) => {
      const logits = linear(x, head(parameters))
      return logitSoftCap === undefined ? logits : softCap(logits, logitSoftCap)
    },
    logProbs: (parameters, x, targets, { temperature }) =>
      tokenLogProbs(x, head(parameters), targets, { temperature, softCap: logitSoftCap }),
    classify,
    values: (parameters, x) => {
      const labels = config.numLabels
      if (labels !== 1) throw new TypeError(`values need a head of one label; this one tells ${labels} apart`)
      return classify(parameters, x).reshape([x.shape[0]!])
    },
    dispose: () => {
      for (const table of Object.values(tables)) table.dispose()
    },
  }
}

/** A key for each adapted module. */
const dropoutKeysOf = ({ modules }: LoraAdapter, key: Tensor): DropoutKeys => {
  const names = [...modules.values()].flat().map(({ name }) => name)
  const keys = random.split(key, names.length)
  return new Map(names.map((name, i) => [name, keys[i]!]))
}

const get = (parameters: Parameters, name: string): Tensor => {
  const tensor = parameters[name]
  if (tensor === undefined) throw new TypeError(`the decoder needs parameter "${name}", which was not given`)
  return tensor
}
