/** Figures and small charts as text. Every character is one column wide. */

const grouped = (value: number, digits: number): string =>
  value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })

/** Three figures or so: 9,400 · 11.2 · 0.61 · 0.012 · 3.1e-7. */
export const formatNumber = (value: number): string => {
  const size = Math.abs(value)
  if (!Number.isFinite(value)) return String(value)
  if (size >= 99.95) return grouped(value, 0)
  if (size >= 9.995) return grouped(value, 1)
  if (size >= 0.0995 || size === 0) return value.toFixed(2)
  return size >= 1e-4 ? String(Number(value.toPrecision(2))) : value.toExponential(1)
}

/** A share of one: 3 %. */
export const formatPercent = (share: number): string => `${formatNumber(share * 100).replace(/\.0+$/, "")} %`

/** Seconds as 42s, 1m 12s or 2h 05m. */
export const formatDuration = (seconds: number): string => {
  const whole = Math.round(seconds)
  const two = (value: number) => String(value).padStart(2, "0")
  if (whole < 60) return `${whole}s`
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${two(whole % 60)}s`
  return `${Math.floor(whole / 3600)}h ${two(Math.floor((whole % 3600) / 60))}m`
}

/** A count in words: 795,776 → 0.80 M. */
export const formatCount = (count: number): string => {
  if (count >= 1e9) return `${formatNumber(count / 1e9)} B`
  return count >= 1e5 ? `${formatNumber(count / 1e6)} M` : grouped(count, 0)
}

/** Bytes in the binary unit that fits: 4 GiB, 128 MiB, 2.5 MiB, 12 KiB. */
export const formatBytes = (bytes: number): string => {
  const [unit, size] = bytes >= 2 ** 30 ? ["GiB", 2 ** 30] : bytes >= 2 ** 20 ? ["MiB", 2 ** 20] : ["KiB", 2 ** 10]
  return `${Number((bytes / size).toFixed(bytes / size < 100 ? 1 : 0))} ${unit}`
}

/** The bytes that a text such as 24GiB, 512 MiB or 80GB means; undefined for any other. */
export const parseBytes = (text: string): number | undefined => {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGT])(i?)B$/i.exec(text.trim())
  if (!match) return undefined
  const [, number, unit, binary] = match
  return Math.floor(Number(number) * (binary ? 1024 : 1000) ** ("KMGT".indexOf(unit!.toUpperCase()) + 1))
}

/** `share` (0 … 1) of `width` columns filled. */
export const progressBar = (share: number, width: number): string => {
  const filled = Math.round(Math.min(1, Math.max(0, share)) * width)
  return "█".repeat(filled) + "░".repeat(width - filled)
}

const blocks = "▁▂▃▄▅▆▇█"

/** The course of `values`, from the lowest to the highest of them, as means over at most `width` equal stretches. */
export const sparkline = (values: ReadonlyArray<number>, width: number): string => {
  const finite = values.filter(Number.isFinite)
  const columns = Math.min(width, finite.length)
  const means = Array.from({ length: columns }, (_, column) => {
    const start = Math.floor((column * finite.length) / columns)
    const stretch = finite.slice(start, Math.floor(((column + 1) * finite.length) / columns))
    return stretch.reduce((sum, value) => sum + value, 0) / stretch.length
  })
  const low = Math.min(...means)
  const range = Math.max(...means) - low
  return means
    .map((mean) => blocks[range === 0 ? 0 : Math.round(((mean - low) / range) * (blocks.length - 1))])
    .join("")
}

/** `text` on one line, cut to `width` columns. */
export const oneLine = (text: string, width: number): string => {
  const flat = text
    .trim()
    .replaceAll(/\s*\n\s*/g, " ⏎ ")
    .replaceAll(/\p{Cc}/gu, " ")
  return flat.length > width ? `${flat.slice(0, width - 1)}…` : flat
}
