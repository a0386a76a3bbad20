/** Where `@huggingface/tokenizers` 0.2.0 differs from the Rust library, and how to make it agree. */

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
