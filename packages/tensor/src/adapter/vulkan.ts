import { existsSync, readdirSync } from "node:fs"
import { constants, homedir } from "node:os"
import { delimiter, join } from "node:path"

/** The process environment as native code sees it, and its dynamic linker. */
export interface NativeProcess {
  /** Sets a variable for native code (`getenv`); `undefined` removes it. */
  setEnv(name: string, value: string | undefined): void
  /** Loads a shared library for good, its symbols visible to all. Returns what went wrong, or `undefined`. */
  load(library: string): string | undefined
}

type Environment = Readonly<Record<string, string | undefined>>

/** Variables that name the Vulkan drivers to use; the newer one wins where a loader knows it. */
export const DRIVER_VARIABLES = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] as const

/** Folders in which the Vulkan loader of a Linux system looks for the files that name drivers. */
function driverFolders(env: Environment): string[] {
  const list = (value: string | undefined, otherwise: string) => (value || otherwise).split(delimiter)
  const home = env["HOME"] || homedir()
  return [
    ...list(env["XDG_CONFIG_HOME"], join(home, ".config")),
    ...list(env["XDG_CONFIG_DIRS"], "/etc/xdg"),
    "/usr/local/etc",
    "/etc",
    ...list(env["XDG_DATA_HOME"], join(home, ".local/share")),
    ...list(env["XDG_DATA_DIRS"], "/usr/local/share:/usr/share"),
  ].map((folder) => join(folder, "vulkan/icd.d"))
}

/** The files that name this system's Vulkan drivers: those of the environment if it names any, else the installed ones. */
export function findDriverFiles(env: Environment = process.env): string[] {
  for (const name of DRIVER_VARIABLES) {
    const files = env[name]
    if (files)
      return files.split(delimiter).flatMap((file) => (file.endsWith(".json") ? existing(file) : jsonFiles(file)))
  }
  return driverFolders(env).flatMap(jsonFiles)
}

function existing(file: string): string[] {
  return existsSync(file) ? [file] : []
}

function jsonFiles(folder: string): string[] {
  try {
    return readdirSync(folder)
      .filter((file) => file.endsWith(".json"))
      .map((file) => join(folder, file))
  } catch {
    return []
  }
}

/** Where {@link findDriverFiles} looks, in words. */
export function whereDriversAre(env: Environment = process.env): string {
  const name = DRIVER_VARIABLES.find((variable) => env[variable])
  return name ? `${name}=${env[name]}` : driverFolders(env).join(", ")
}

/** Access to the native side of this process, under Bun or Node. */
export async function nativeProcess(): Promise<NativeProcess> {
  return process.versions["bun"] === undefined ? nodeProcess() : await bunProcess()
}

// glibc's values; Node does not name the last one.
const RTLD_NOW = 2
const RTLD_GLOBAL = 0x100
const RTLD_NODELETE = 0x1000

async function bunProcess(): Promise<NativeProcess> {
  const { dlopen } = await import("bun:ffi")
  // Bun keeps `process.env` to itself, so that only libc's own functions reach native code.
  const { symbols: libc } = dlopen("libc.so.6", {
    setenv: { args: ["cstring", "cstring", "i32"], returns: "i32" },
    unsetenv: { args: ["cstring"], returns: "i32" },
    dlopen: { args: ["cstring", "i32"], returns: "ptr" },
    dlerror: { args: [], returns: "cstring" },
  })
  const bytes = (text: string) =>
    new TextEncoder().encode(`${text}\0`) as unknown as Parameters<typeof libc.unsetenv>[0]
  return {
    setEnv: (name, value) => {
      if (value === undefined) libc.unsetenv(bytes(name))
      else libc.setenv(bytes(name), bytes(value), 1)
    },
    load: (library) => {
      if (libc.dlopen(bytes(library), RTLD_NOW | RTLD_GLOBAL) !== null) return undefined
      return libc.dlerror()?.toString() ?? `cannot load ${library}`
    },
  }
}

function nodeProcess(): NativeProcess {
  return {
    setEnv: (name, value) => {
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
    },
    load: (library) => {
      try {
        // Node unloads what is not an addon: RTLD_NODELETE keeps it.
        const flags = constants.dlopen.RTLD_NOW | constants.dlopen.RTLD_GLOBAL | RTLD_NODELETE
        process.dlopen({ exports: {} }, library, flags)
        return undefined
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error)
        return /did not self-register/.test(message) ? undefined : message
      }
    },
  }
}
