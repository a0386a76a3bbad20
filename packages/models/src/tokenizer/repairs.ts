/**
 * Where `@huggingface/tokenizers` 0.2.0 and `@huggingface/jinja` 0.5.11 differ from the libraries in Rust and Python, and
 * how to make them agree.
 */

/** Digits are all of Unicode's numbers (`char::is_numeric`), not ASCII's alone: the same cut as an expression. */
export const repairDigits = (preTokenizer: unknown): unknown => {
  if (typeof preTokenizer !== "object" || preTokenizer === null) return preTokenizer
  const node = preTokenizer as Readonly<Record<string, unknown>>
  if (node["type"] === "Digits") {
    const pattern = { Regex: node["individual_digits"] === true ? "\\p{N}" : "\\p{N}+" }
    return { type: "Split", pattern, behavior: "Isolated", invert: false }
  }
  const children = node["pretokenizers"]
  return Array.isArray(children) ? { ...node, pretokenizers: children.map(repairDigits) } : node
}

/**
 * Bytes that are not UTF-8 decode to one U+FFFD each, as in the Rust library. This one merges some of them, and drops a
 * byte order mark.
 */
export const repairByteFallback = (decoder: unknown): void => {
  const node = decoder as {
    decoders?: ReadonlyArray<unknown>
    config?: { type?: unknown }
    text_decoder?: unknown
  } | null
  node?.decoders?.forEach(repairByteFallback)
  if (node?.config?.type !== "ByteFallback") return
  const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
  node.text_decoder = {
    decode: (bytes: Uint8Array) => {
      try {
        return utf8.decode(bytes)
      } catch {
        return "\uFFFD".repeat(bytes.length)
      }
    },
  }
}

/** Python's `strip`, `lstrip` and `rstrip` of the given characters; the library's methods take off white space alone. */
export const STRIPS: Readonly<Record<string, (text: string, characters: string) => string>> = {
  strip: (text, characters) => STRIPS["rstrip"]!(STRIPS["lstrip"]!(text, characters), characters),
  lstrip: (text, characters) => {
    const all = Array.from(text)
    const first = all.findIndex((character) => !characters.includes(character))
    return first < 0 ? "" : all.slice(first).join("")
  },
  rstrip: (text, characters) => {
    const all = Array.from(text)
    return all.slice(0, all.findLastIndex((character) => !characters.includes(character)) + 1).join("")
  },
}

/**
 * Turns `text.strip(characters)` of a parsed template into `strip(text, characters)`, for a template that is given
 * {@link STRIPS} as variables of these names behind `prefix`.
 */
export const repairStrips = (node: unknown, prefix: string): void => {
  if (typeof node !== "object" || node === null) return
  for (const child of Object.values(node)) repairStrips(child, prefix)
  const { type, callee, args } = node as { type?: unknown; callee?: StripCallee; args?: unknown[] }
  const name = callee?.property?.value
  if (type !== "CallExpression" || callee?.type !== "MemberExpression" || callee.computed === true) return
  if (args?.length !== 1 || typeof name !== "string" || !Object.hasOwn(STRIPS, name)) return
  args.unshift(callee.object)
  Object.assign(node, { callee: { type: "Identifier", value: prefix + name } })
}

interface StripCallee {
  readonly type?: unknown
  readonly computed?: unknown
  readonly object?: unknown
  readonly property?: { readonly value?: unknown }
}
