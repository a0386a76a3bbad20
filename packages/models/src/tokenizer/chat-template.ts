import { Template } from "@huggingface/jinja"
import { ModelError } from "../errors.ts"
import { repairStrips, STRIPS } from "./repairs.ts"

/** A message of a conversation. Templates may read more fields: `tool_calls`, `reasoning_content`, `name`. */
export interface ChatMessage {
  /** `system`, `user`, `assistant` or `tool`, mostly. */
  readonly role: string
  readonly content?: unknown
  readonly [field: string]: unknown
}

export interface ChatOptions {
  /** Descriptions of the tools that the assistant may call, as JSON schema, mostly of OpenAI's function form. */
  readonly tools?: ReadonlyArray<Readonly<Record<string, unknown>>>
  /** Ends the text with the words that start an assistant's message. */
  readonly addGenerationPrompt?: boolean
  /** More variables for the template, `enable_thinking` for one. */
  readonly variables?: Readonly<Record<string, unknown>>
}

/** Characters `begin` … `end` of a text. */
export interface Span {
  readonly begin: number
  readonly end: number
}

/** A model's Jinja template, which writes a conversation as the text that the model was trained on. */
export interface ChatTemplate {
  readonly source: string
  /** @throws ModelError if the template refuses the conversation, with the template's own words */
  readonly render: (messages: ReadonlyArray<ChatMessage>, options?: ChatOptions) => string
  /** The parts inside of `{% generation %}` tags, or undefined for a template without. */
  readonly generationSpans: (
    messages: ReadonlyArray<ChatMessage>,
    options?: ChatOptions,
  ) => ReadonlyArray<Span> | undefined
}

/**
 * Parses a template with the settings of transformers (`trim_blocks`, `lstrip_blocks`).
 *
 * @param specialTokens variables such as `bos_token`
 * @param path the name that errors carry
 * @throws ModelError if it is not a template
 */
export const parseChatTemplate = (
  source: string,
  specialTokens: Readonly<Record<string, string>>,
  path: string,
): ChatTemplate => {
  const template = parse(source, path)
  const marked = GENERATION_TAG.test(source) ? parse(markGenerations(source), path) : undefined

  const run = (template: Template, messages: ReadonlyArray<ChatMessage>, options: ChatOptions): string => {
    try {
      return template.render({
        ...specialTokens,
        messages,
        // Absent is None to a template, which asks `tools is not none`.
        tools: options.tools ?? null,
        documents: null,
        add_generation_prompt: options.addGenerationPrompt ?? false,
        ...options.variables,
        ...OUR_VARIABLES,
      })
    } catch (cause) {
      throw new ModelError("tokenizer", path, `the chat template fails: ${(cause as Error).message}`, { cause })
    }
  }
  return {
    source,
    render: (messages, options = {}) => run(template, messages, options),
    generationSpans: (messages, options = {}) => {
      if (marked === undefined) return undefined
      const pieces = run(marked, messages, options).split(MARK)
      // Tags come in pairs, and without the marks it is the text itself.
      if (pieces.length % 2 === 0 || pieces.join("") !== run(template, messages, options)) {
        const problem =
          "the chat template's {% generation %} tags cannot be followed; a message holds U+FDD0, or tags overlap"
        throw new ModelError("tokenizer", path, problem)
      }
      const spans: Span[] = []
      let position = 0
      for (const [index, { length }] of pieces.entries()) {
        if (index % 2 === 1) spans.push({ begin: position, end: position + length })
        position += length
      }
      return spans
    },
  }
}

/** No template has variables of this name. */
const OURS = "rlpt "
const OUR_VARIABLES = Object.fromEntries(Object.entries(STRIPS).map(([name, strip]) => [OURS + name, strip]))

const parse = (source: string, path: string): Template => {
  try {
    const template = new Template(source)
    repairStrips(template.parsed, OURS)
    return template
  } catch (cause) {
    const problem = `the chat template is not valid Jinja (${(cause as Error).message})`
    throw new ModelError("tokenizer", path, problem, { cause })
  }
}

/** A noncharacter: no text has it. */
const MARK = "\uFDD0"
const GENERATION_TAG = /{%(-?)\s*(?:end)?generation\s*(-?)%}/

/** The library drops the tags. Written as a block, a mark keeps what tags do to the white space around them. */
const markGenerations = (source: string): string =>
  source.replace(
    new RegExp(GENERATION_TAG, "g"),
    (_, left: string, right: string) => `{%${left} if true %}{{ "${MARK}" }}{% endif ${right}%}`,
  )
