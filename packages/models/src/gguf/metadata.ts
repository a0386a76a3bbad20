import { ModelError } from "../errors.ts"
import type { GgufValue } from "./reader.ts"

/** Typed access to a GGUF file's metadata. A value of another type than asked for is an error that names the key. */
export class Metadata {
  constructor(
    private readonly values: ReadonlyMap<string, GgufValue>,
    private readonly file: string,
  ) {}

  number(key: string): number | undefined {
    return this.get(key, "a number", (value): value is number => typeof value === "number")
  }

  boolean(key: string): boolean | undefined {
    return this.get(key, "true or false", (value): value is boolean => typeof value === "boolean")
  }

  string(key: string): string | undefined {
    return this.get(key, "a string", (value): value is string => typeof value === "string")
  }

  numbers(key: string): ReadonlyArray<number> | undefined {
    return this.get(key, "a list of numbers", (value): value is ReadonlyArray<number> => isListOf(value, "number"))
  }

  strings(key: string): ReadonlyArray<string> | undefined {
    return this.get(key, "a list of strings", (value): value is ReadonlyArray<string> => isListOf(value, "string"))
  }

  /** Any value, for handing through. */
  value(key: string): GgufValue | undefined {
    return this.values.get(key)
  }

  required<Value>(key: string, value: Value | undefined): Value {
    if (value === undefined)
      throw new ModelError("invalid-file", this.file, `metadata ${JSON.stringify(key)} is missing`)
    return value
  }

  private get<Value extends GgufValue>(
    key: string,
    kind: string,
    is: (value: GgufValue) => value is Value,
  ): Value | undefined {
    const value = this.values.get(key)
    if (value === undefined || is(value)) return value
    throw new ModelError("invalid-file", this.file, `metadata ${JSON.stringify(key)} is not ${kind}`)
  }
}

const isListOf = (value: GgufValue, type: "number" | "string"): boolean =>
  Array.isArray(value) && (value.length === 0 || typeof value[0] === type)
