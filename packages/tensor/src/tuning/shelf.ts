export interface Kept {
  readonly text: string
  readonly place: string
}

/** A place that keeps small texts from one process, or page, to the next. */
export interface Shelf {
  /** The text of that name and where it was, or `undefined` where there is none that can be read. */
  readonly read: (name: string) => Promise<Kept | undefined>
  /** Keeps a text, whole or not at all, and tells where. Rejects where nothing can be kept. */
  readonly write: (name: string, text: string) => Promise<string>
}

/**
 * The browser's cache of this site: unlike `localStorage` it is there in workers too, and wherever WebGPU is, since both
 * want a secure page.
 */
export const browserShelf: Shelf = {
  read: async (name) => {
    try {
      const found = await (await openCache()).match(addressOf(name))
      return found && { text: await found.text(), place: browserPlace }
    } catch {
      return undefined
    }
  },
  write: async (name, text) => {
    await (await openCache()).put(addressOf(name), new Response(text))
    return browserPlace
  },
}

/** As much of the browser's `Cache` as is used here: not every program that reads these sources knows the types of browsers. */
interface Cache {
  readonly match: (address: string) => Promise<Response | undefined>
  readonly put: (address: string, response: Response) => Promise<void>
}

const openCache = (): Promise<Cache> => {
  const { caches } = globalThis as { caches?: { readonly open: (name: string) => Promise<Cache> } }
  if (!caches) throw new Error("this page has no cache: it must come over https or from localhost")
  return caches.open("rlpt")
}

const browserPlace = "the browser's cache of this site"

/** Entries are keyed by addresses; nobody asks for this one. */
const addressOf = (name: string): string => `https://rlpt.invalid/${name}`
