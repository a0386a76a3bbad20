import { readFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, test } from "vitest"
import { createTokenizer, ModelError, type ChatMessage } from "../src/index.ts"
import { fixtures } from "./fixtures.ts"

interface Case {
  readonly template: string
  readonly eos: string
  readonly messages: ReadonlyArray<ChatMessage>
  readonly options: Readonly<Record<string, unknown>>
  readonly text?: string
  readonly error?: string
  readonly ids?: ReadonlyArray<number>
  readonly mask?: ReadonlyArray<number>
}

const read = (file: string) => readFileSync(join(fixtures, "chat", file), "utf8")
const cases = JSON.parse(read("cases.json")) as ReadonlyArray<Case>
const continued = JSON.parse(read("continued.json")) as ReadonlyArray<Case>
const vocabulary = JSON.parse(read("tokenizer.json"))

const tokenizerOf = (template: string, eos: string) =>
  createTokenizer({
    tokenizer: vocabulary,
    config: { bos_token: "<bos>", eos_token: eos },
    chatTemplate: read(`${template}.jinja`),
  })
const optionsOf = ({ tools, add_generation_prompt: addGenerationPrompt, ...variables }: Case["options"]) => ({
  ...(Array.isArray(tools) && { tools }),
  addGenerationPrompt: addGenerationPrompt === true,
  variables,
})

describe.each([...new Set(cases.map(({ template }) => template))])("%s", (template) => {
  const own = cases.filter((one) => one.template === template)

  test("writes, tokenises and masks conversations as transformers does", () => {
    const results = own.map(({ eos, messages, options, mask, error }) => {
      const { encodeChat } = tokenizerOf(template, eos)
      if (error !== undefined) {
        expect(() => encodeChat(messages, optionsOf(options))).toThrow(ModelError)
        expect(() => encodeChat(messages, optionsOf(options))).toThrow(error)
        return { error }
      }
      const { text, tokens, assistantMask } = encodeChat(messages, optionsOf(options))
      return { text, ids: [...tokens], ...(mask && { mask: [...assistantMask] }) }
    })
    expect(results).toEqual(
      own.map(({ text, ids, mask, error }) => (error ? { error } : { text, ids, ...(mask && { mask }) })),
    )
  })

  test("the mask of a finished conversation is what the assistant writes behind the prompts", () => {
    for (const { eos, messages, options, error } of own) {
      if (error !== undefined || optionsOf(options).addGenerationPrompt) continue
      const { encodeChat, decode, applyChatTemplate } = tokenizerOf(template, eos)
      const { text, tokens, assistantMask } = encodeChat(messages, optionsOf(options))
      const isText = (from: number, to: number, expected: string) =>
        expect(decode(tokens.subarray(from, to))).toBe(decode(tokenizerOf(template, eos).encode(expected)))
      // The last answer begins where the prompt for it ends, and ends with the end-of-turn token.
      const last = assistantMask.lastIndexOf(1)
      const first = assistantMask.subarray(0, last).lastIndexOf(0) + 1
      const prompt = applyChatTemplate(messages.slice(0, -1), { ...optionsOf(options), addGenerationPrompt: true })
      expect(text.startsWith(prompt)).toBe(true)
      isText(first, last + 1, text.slice(prompt.length).trimEnd())
      expect(tokens[last]).toBe(vocabulary.model.vocab[eos])
      // Each of the assistant's messages is one run.
      const runs = assistantMask.filter((bit, i) => bit === 1 && assistantMask[i - 1] !== 1).length
      expect(runs).toBe(messages.filter(({ role }) => role === "assistant").length)
    }
  })
})

describe("a prompt", () => {
  test("ends with the words that start an answer", () => {
    const prompts = cases.filter(({ options }) => options["add_generation_prompt"] === true && !options["error"])
    expect(prompts.length).toBeGreaterThan(20)
    for (const { template, eos, messages, options, text, ids, error } of prompts) {
      if (error !== undefined || messages.at(-1)?.role === "assistant") continue
      const { addGenerationPrompt: _, ...rest } = optionsOf(options)
      const prompt = tokenizerOf(template, eos).encodePrompt(messages, rest)
      expect({ text: prompt.text, ids: [...prompt.tokens] }).toEqual({ text, ids })
    }
  })

  test("that ends with an answer is left open, as transformers' continue_final_message does", () => {
    for (const { template, eos, messages, options, text, ids, error } of continued) {
      const encode = () => tokenizerOf(template, eos).encodePrompt(messages, optionsOf(options))
      if (error !== undefined) expect(encode).toThrow(error)
      else expect({ ...encode(), tokens: [...encode().tokens] }).toEqual({ text, tokens: ids })
    }
    const lost = () => tokenizerOf("chatml", "<|im_end|>").encodePrompt([{ role: "assistant", content: [{}] }])
    expect(lost).toThrow(/does not write the last message as it is/)
  })
})

test("the mask from a message on is the whole mask without the answers before", () => {
  for (const { template, eos, messages, options, error } of cases) {
    if (error !== undefined || optionsOf(options).addGenerationPrompt) continue
    const { encodeChat } = tokenizerOf(template, eos)
    const whole = encodeChat(messages, optionsOf(options)).assistantMask
    const from = messages.findLastIndex(({ role }) => role === "assistant")
    const last = encodeChat(messages, { ...optionsOf(options), from }).assistantMask
    const begin = whole.subarray(0, whole.lastIndexOf(1)).lastIndexOf(0) + 1
    expect([...last]).toEqual([...whole].map((bit, i) => (i < begin ? 0 : bit)))
  }
})

describe("a conversation goes on behind sampled tokens", () => {
  const { encodeChat, encodeFollowing, encode } = tokenizerOf("chatml", "<|im_end|>")
  const question = [{ role: "user", content: "Hi" }]
  const answer = { role: "assistant", content: "Hello!" }
  const next = [{ role: "user", content: "And now?" }]
  const end = vocabulary.model.vocab["<|im_end|>"]

  test("with the tokens of the whole conversation, when the answer was sampled as it would be tokenised", () => {
    const prompt = encodeChat(question, { addGenerationPrompt: true }).tokens
    const sampled = [...encode("Hello!").subarray(1), end]
    const following = encodeFollowing([...question, answer], next, { answerEnded: true })
    const whole = encodeChat([...question, answer, ...next], { addGenerationPrompt: true }).tokens
    expect([...prompt, ...sampled, ...following]).toEqual([...whole])
  })

  test("and an answer that was cut off is closed first", () => {
    const ended = encodeFollowing([...question, answer], next, { answerEnded: true })
    const cut = encodeFollowing([...question, answer], next, { answerEnded: false })
    expect([...cut]).toEqual([end, ...ended])
  })

  test("whatever the template does to reasoning in earlier turns", () => {
    const thinking = tokenizerOf("thinking", "<|im_end|>")
    const tool = [{ role: "tool", content: "5" }]
    const following = thinking.encodeFollowing([...question, answer], tool, { answerEnded: true })
    const text = "\n<|im_start|>user\n<tool_response>\n5\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    expect([...following]).toEqual([...thinking.encode(text).subarray(1)])
  })

  test("but not with a template that leaves the answer out", () => {
    const { encodeFollowing } = createTokenizer({
      tokenizer: vocabulary,
      config: { chat_template: "{{ messages | length }}" },
    })
    expect(() => encodeFollowing([...question, answer], next, { answerEnded: true })).toThrow(/turns cannot be joined/)
  })
})

describe("a chat template", () => {
  const of = (chat_template: unknown) => createTokenizer({ tokenizer: vocabulary, config: { chat_template } }, [], "x")

  test("is taken from tokenizer_config.json; `tool_use` is for conversations with tools", () => {
    const { applyChatTemplate, hasChatTemplate } = of([
      { name: "default", template: "plain" },
      { name: "tool_use", template: "tools" },
    ])
    expect(hasChatTemplate).toBe(true)
    expect(applyChatTemplate([])).toBe("plain")
    expect(applyChatTemplate([], { tools: [{}] })).toBe("tools")
  })

  test("that is missing or broken is named when it is needed, not before", () => {
    expect(of(undefined).hasChatTemplate).toBe(false)
    expect(() => of(undefined).applyChatTemplate([])).toThrow(/^x: the model has no chat template/)
    expect(() => of("{% for %}").applyChatTemplate([])).toThrow(/^x: the chat template is not valid Jinja/)
    expect(() => of("{{ 1 | nothing }}").applyChatTemplate([])).toThrow(/^x: the chat template fails: /)
  })

  test("that rewrites earlier turns beyond recognition is refused a mask", () => {
    const { encodeChat } = of("{{ messages[-1].content }}")
    const messages = [
      { role: "assistant", content: "a" },
      { role: "user", content: "b" },
    ]
    expect(() => encodeChat(messages)).toThrow(/rewrites message 1 when others follow.*generation/)
  })
})
