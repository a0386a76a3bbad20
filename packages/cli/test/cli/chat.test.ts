import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { it } from "@effect/vitest"
import { Effect, FileSystem } from "effect"
import { expect } from "vitest"
import { withFiles } from "../support.ts"
import { runProcess } from "./support.ts"

const fixture = (file: string) =>
  readFileSync(fileURLToPath(new URL(`../../../models/test/fixtures/chat/${file}`, import.meta.url)), "utf8")

const architecture = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  vocab_size: 400,
  hidden_size: 16,
  intermediate_size: 32,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  max_position_embeddings: 256,
}

const question = (content: string) => ({ role: "user", content })
const answer = (content: string) => ({ role: "assistant", content })
const lines = [
  { messages: [question("Hi"), answer("Hello!"), question("And now?"), answer("Bye")] },
  { prompt: [question("Q")], completion: [answer("A")], tools: [{ type: "function" }] },
  { prompt: [{ role: "system", content: "Be brief." }, question("Q")], completion: [answer("B")] },
]

const files = {
  "config.json": JSON.stringify(architecture),
  // Without a start token: then the template's text, given as text, has the tokens of the chat.
  "tokenizer.json": JSON.stringify({ ...JSON.parse(fixture("tokenizer.json")), post_processor: null }),
  "tokenizer_config.json": JSON.stringify({ bos_token: "<bos>", eos_token: "<|im_end|>" }),
  "chat_template.jinja": fixture("chatml.jinja"),
  "rows.jsonl": lines.map((line) => JSON.stringify(line)).join("\n"),
  "sft.yaml": `
model: .
from_scratch: true
task: { use: jsonl, options: { train: rows.jsonl, eval: rows.jsonl } }
max_steps: 2
batch_size: 3
eval_steps: 2
output_dir: out
`,
  "grpo.yaml": `
model: out/tuned
task: { use: jsonl, options: { train: rows.jsonl } }
rewards: [{ use: length, options: { maxLength: 4, cache: 2 } }]
prompts_per_step: 3
num_generations: 2
max_completion_length: 4
max_steps: 1
log_completions_steps: 1
output_dir: out
`,
}

it.live("a data set of messages fine-tunes a model, trains it, and asks it by its chat template", () =>
  withFiles(
    files,
    Effect.fnUntraced(function* (directory) {
      const fs = yield* FileSystem.FileSystem
      const tuned = yield* runProcess(directory, "sft", "--config", "sft.yaml", "--run-name", "tuned")
      expect(tuned.errors).not.toContain("error")
      expect(tuned.code).toBe(0)
      expect(tuned.output).toMatch(/^try it {3}rlpt generate --model out\/tuned\/model --chat "Hi"$/m)

      const trained = yield* runProcess(directory, "train", "--config", "grpo.yaml", "--run-name", "trained")
      expect(trained.errors).not.toContain("error")
      expect(trained.code).toBe(0)
      const [file] = yield* fs.readDirectory(`${directory}/out/trained/samples`)
      const samples = (yield* fs.readFileString(`${directory}/out/trained/samples/${file}`)).trim().split("\n")
      const prompts = samples.map((line) => JSON.parse(line).prompt as string)
      expect(prompts.length).toBe(6)
      for (const prompt of prompts) expect(prompt.endsWith("<|im_end|>\n<|im_start|>assistant\n")).toBe(true)
      expect(prompts.some((prompt) => prompt.includes("Be brief."))).toBe(true)

      const short = yield* runProcess(directory, "train", "--config", "grpo.yaml", "--set", "contextLength=20")
      expect(short.code).toBe(1)
      expect(short.errors).toMatch(
        /its prompt has \d+ tokens, but a context of 20 less maxCompletionLength 4 leaves 16/,
      )

      const asked = ["generate", "--model", "out/tuned", "--greedy", "--max-completion-length", "4"]
      const chat = yield* runProcess(directory, ...asked, "--chat", "--system", "Be brief.", "Hi")
      expect(chat.code).toBe(0)
      const text = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
      expect(chat.output).toBe((yield* runProcess(directory, ...asked, text)).output)

      yield* fs.remove(`${directory}/out/tuned/model/chat_template.jinja`)
      const without = yield* runProcess(directory, ...asked, "--chat", "Hi")
      expect(without.code).toBe(1)
      expect(without.errors).toContain("the model has no chat template")
    }),
  ),
)
