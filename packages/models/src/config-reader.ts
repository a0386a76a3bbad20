import { ModelError } from "./errors.ts"

type Json = Readonly<Record<string, unknown>>

export const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/**
 * Typed access to the fields of a `config.json`. A field that is absent or null has its fallback, and without one is
 * required.
 *
 * Every method throws a ModelError that names the file and the field if the value is of another kind.
 */
export class ConfigReader {
  constructor(
    readonly json: Json,
    readonly file: string,
    /** Path to `json` within the file, with a dot at the end. */
    private readonly path = "",
  ) {}

  /** A positive integer. */
  integer(key: string, fallback?: number): number {
    return this.#positive(key, fallback, Number.isInteger, "a positive integer")
  }

  /** A positive number. */
  number(key: string, fallback?: number): number {
    return this.#positive(key, fallback, Number.isFinite, "a positive number")
  }

  /** A positive number or null, which turns the feature off; `fallback` counts only where the field is absent. */
  optional(key: string, fallback?: number): number | undefined {
    return this.json[key] === null || (this.json[key] === undefined && fallback === undefined)
      ? undefined
      : this.number(key, fallback)
  }

  boolean(key: string, fallback: boolean): boolean {
    const value = this.json[key] ?? fallback
    if (typeof value !== "boolean") throw this.#invalid(key, "true or false")
    return value
  }

  string(key: string, fallback?: string): string {
    const value = this.json[key] ?? fallback
    if (value === undefined) throw this.#missing(key)
    if (typeof value !== "string") throw this.#invalid(key, "a text")
    return value
  }

  /** A list of positive numbers. */
  numbers(key: string): ReadonlyArray<number> {
    const value = this.json[key] ?? undefined
    if (value === undefined) throw this.#missing(key)
    const isPositive = (one: unknown): one is number => typeof one === "number" && Number.isFinite(one) && one > 0
    if (!Array.isArray(value) || !value.every(isPositive)) throw this.#invalid(key, "a list of positive numbers")
    return value
  }

  /** What a list says of each of `count` layers, one of `values`. Absent: undefined. */
  perLayer<Value>(key: string, count: number, values: ReadonlyArray<Value>): ReadonlyArray<Value> | undefined {
    const list = this.json[key] ?? undefined
    if (list === undefined) return undefined
    const known = (one: unknown): one is Value => values.includes(one as Value)
    const choices = values.map((one) => JSON.stringify(one)).join(" or ")
    if (!Array.isArray(list) || list.length < count || !list.every(known))
      throw this.#invalid(key, `a list with ${choices} for each of ${count} layers`)
    return list.slice(0, count)
  }

  /** The fields of an object. Absent: undefined. */
  object(key: string): ConfigReader | undefined {
    const value = this.json[key] ?? undefined
    if (value === undefined) return undefined
    if (!isObject(value)) throw this.#invalid(key, "an object")
    return new ConfigReader(value, this.file, `${this.path}${key}.`)
  }

  /**
   * Token ids under `key`: a number, a list or null, and `fallback` where the key is absent.
   *
   * @throws ModelError if it is anything else
   */
  tokenIds(key: string, fallback: number | null): ReadonlyArray<number> {
    const value = this.json[key] === undefined ? fallback : this.json[key]
    const list: ReadonlyArray<unknown> = value === null ? [] : Array.isArray(value) ? value : [value]
    if (!list.every((id): id is number => Number.isSafeInteger(id) && (id as number) >= 0))
      throw this.#invalid(key, "token ids")
    return list
  }

  /** The error of a field whose value means a computation that the decoder does not do. */
  unsupported(key: string, supported: string): ModelError {
    const value = JSON.stringify(this.json[key])
    return new ModelError(
      "unsupported",
      this.file,
      `"${this.path}${key}": ${value} is not supported, only ${supported}`,
    )
  }

  #positive(key: string, fallback: number | undefined, isKind: (value: number) => boolean, kind: string): number {
    const value = this.json[key] ?? fallback
    if (value === undefined) throw this.#missing(key)
    if (typeof value !== "number" || !isKind(value) || value <= 0) throw this.#invalid(key, kind, value)
    return value
  }

  #missing(key: string): ModelError {
    return new ModelError("invalid-file", this.file, `"${this.path}${key}" is missing`)
  }

  #invalid(key: string, kind: string, value: unknown = this.json[key]): ModelError {
    return new ModelError(
      "invalid-file",
      this.file,
      `"${this.path}${key}" must be ${kind}, not ${JSON.stringify(value)}`,
    )
  }
}
