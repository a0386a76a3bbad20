/**
 * Compares greedy continuations of rlpt and of llama.cpp, on the CPU, from one GGUF file. From test/parity/llama-cpp:
 *
 *   bun install --ignore-scripts
 *   bun run.ts model.gguf [--llama model-f32.gguf] [--tokens 64]
 *
 * Along llama.cpp's tokens, both give the distribution of the next one at every place. Where the likeliest is another,
 * the two leads are printed: how much likelier (nats) each engine finds its own choice than the other's. It is a tie if
 * neither lead exceeds what the engines differ by, at the most, in the lead of the first over the second where they agree.
 * From quantised weights llama.cpp computes with 8-bit activations and is that much coarser; give it the same weights as
 * F32 (`dequantize.py`) to compare the engines rather than the arithmetic. Fails if a parting is no tie.
 */
import { parseArgs } from "node:util"
import { compare, isTie } from "./compare.ts"
import { openLlama } from "./llama.ts"
import { openRlpt } from "./rlpt.ts"

const prompts = [
  "What is the capital of France?",
  "Write a haiku about the sea.",
  "Explain in two sentences why the sky is blue.",
  "List three uses of a paper clip.",
  "Translate to French: The cat sleeps on the chair.",
]

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { llama: { type: "string" }, tokens: { type: "string", default: "64" } },
})
const [file] = positionals
if (file === undefined) throw new Error("give the path of a GGUF file")
const count = Number(values.tokens)

const ours = await openRlpt(file)
const theirs = await openLlama(values.llama ?? file)
const { decode, encode, endOfText, hasChatTemplate, encodePrompt } = ours.tokenizer
const show = (token: number) => JSON.stringify(decode([token]))
console.log(`${file} · rlpt on ${ours.adapter} · llama.cpp from ${values.llama ?? "the same file"}\n`)

let [same, ties, apart] = [0, 0, 0]
for (const question of prompts) {
  const prompt = hasChatTemplate
    ? encodePrompt([{ role: "user", content: question }])
    : { text: question, tokens: encode(question) }
  const written = await theirs.write([...prompt.tokens], count, new Set(endOfText))
  const next = await ours.next([...prompt.tokens, ...written.tokens.slice(0, -1)], written.tokens.length)
  const { noise, partings, places } = compare(next, written.next)
  const until = partings[0]?.at ?? places
  console.log(`${JSON.stringify(question)}: the same for ${until} of ${places} tokens; noise ${noise.toExponential(1)}`)
  if (theirs.tokenize(prompt.text).join() !== [...prompt.tokens].join()) console.log("  the tokenizers differ on it")
  console.log(`  ${JSON.stringify(decode(written.tokens.slice(0, until)))}`)
  for (const parting of partings) {
    const { at, ourLead, ours: our, theirLead, theirs: their } = parting
    const tie = isTie(parting, noise)
    const leads = `rlpt leads by ${ourLead.toExponential(1)}, llama.cpp by ${theirLead.toExponential(1)}`
    console.log(`  at ${at}: ${show(our)} or ${show(their)}: ${leads}: ${tie ? "a tie" : "NO TIE"}`)
    if (tie) ties++
    else apart++
  }
  if (partings.length === 0) same++
}
console.log(`\n${same} of ${prompts.length} prompts the same throughout; ${ties} ties; ${apart} partings that are none`)
ours.close()
await theirs.close()
process.exit(apart === 0 ? 0 : 1)
