/**
 * Whether `text` is `<a>…</a><b>…</b>…` for the names `a`, `b`, … in this order: each tag opened and closed once, nothing
 * but white space outside. What stands inside is free.
 */
export const hasTags = (text: string, tags: ReadonlyArray<string>): boolean => {
  let rest = text.trim()
  for (const tag of tags) {
    const [open, close] = [`<${tag}>`, `</${tag}>`]
    const end = rest.indexOf(close)
    if (!rest.startsWith(open) || end < 0) return false
    const once = text.indexOf(open) === text.lastIndexOf(open) && text.indexOf(close) === text.lastIndexOf(close)
    if (!once) return false
    rest = rest.slice(end + close.length).trimStart()
  }
  return rest === ""
}
