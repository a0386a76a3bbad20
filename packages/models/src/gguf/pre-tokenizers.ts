/**
 * How text is cut into words before byte-level BPE, by `tokenizer.ggml.pre`. The expressions are those of the models'
 * own `tokenizer.json`; llama.cpp's `llama-vocab.cpp` lists which names share one.
 */
export interface PreTokenization {
  readonly preTokenizer: unknown
  readonly normalizer: unknown
  /** A word that is a token is taken whole, whatever the merges say. */
  readonly ignoreMerges: boolean
  /** Encoding starts with the BOS token unless the file says otherwise. */
  readonly addBos: boolean
}

const byteLevel = (useRegex: boolean) => ({
  type: "ByteLevel",
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: useRegex,
})
const split = (expression: string) => ({
  type: "Split",
  pattern: { Regex: expression },
  behavior: "Isolated",
  invert: false,
})
const sequence = (...pretokenizers: ReadonlyArray<unknown>) => ({ type: "Sequence", pretokenizers })

const CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
const SPACES = "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
/** cl100k_base and what came of it: words with one leading mark, numbers of up to `digits` digits. */
const cl100k = (digits: string) =>
  `${CONTRACTION}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${SPACES}`
/** o200k_base and what came of it: words also end where upper case follows lower case. */
const o200k = (contraction: string, digits: string) => {
  const upper = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
  const lower = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
  const word = "[^\\r\\n\\p{L}\\p{N}]?"
  return (
    `${word}${upper}*${lower}+${contraction}|${word}${upper}+${lower}*${contraction}` +
    `|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${SPACES}`
  )
}

const plain = { normalizer: null, ignoreMerges: false, addBos: false }
const gpt2: PreTokenization = { ...plain, preTokenizer: byteLevel(true) }
const digitByDigit: PreTokenization = {
  ...plain,
  preTokenizer: sequence({ type: "Digits", individual_digits: true }, byteLevel(true)),
}
const regex = (expression: string): PreTokenization => ({
  ...plain,
  preTokenizer: sequence(split(expression), byteLevel(false)),
})
const llama3: PreTokenization = { ...regex(cl100k("\\p{N}{1,3}")), ignoreMerges: true, addBos: true }
const qwen2: PreTokenization = { ...regex(cl100k("\\p{N}")), normalizer: { type: "NFC" } }
const gpt4o = regex(o200k(`${CONTRACTION}?`, "\\p{N}{1,3}"))

export const preTokenizations: Readonly<Record<string, PreTokenization>> = {
  "gpt-2": gpt2,
  "phi-2": gpt2,
  olmo: gpt2,
  exaone4: gpt2,
  smollm: digitByDigit,
  starcoder: digitByDigit,
  refact: digitByDigit,
  "command-r": digitByDigit,
  llama3,
  "llama-v3": llama3,
  "llama-bpe": llama3,
  falcon3: llama3,
  lfm2: llama3,
  dbrx: regex(cl100k("\\p{N}{1,3}")),
  "smaug-bpe": regex(cl100k("\\p{N}{1,3}")),
  qwen2,
  "deepseek-r1-qwen": qwen2,
  "gpt-4o": gpt4o,
  llama4: gpt4o,
  tekken: { ...regex(o200k("", "\\p{N}")), ignoreMerges: true, addBos: true },
}
