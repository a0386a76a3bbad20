import { readdir } from "node:fs/promises"
import { join, posix } from "node:path"
import { ModelError } from "../errors.ts"
import { fileSize, isCommit, RepositoryCache } from "./cache.ts"
import { download, type RemoteFile } from "./download.ts"
import { isComplete, modelFiles, shardNames } from "./files.ts"
import { hubSettings, type HubOptions, type HubSettings } from "./options.ts"
import { INDEX } from "../weights.ts"
import { showReference, type ModelReference } from "./reference.ts"
import { explain, HubFailure, hubFetch, HubUnreachable } from "./request.ts"

/**
 * Brings a model's files from the hub into the cache, those that are missing, and returns the path of the directory (or
 * of the GGUF file) there. A commit that is in the cache is not asked for again.
 *
 * @throws ModelError if the model is not there, not for this token, damaged on the way, or cannot be reached
 */
export const downloadModel = async (reference: ModelReference, options: HubOptions = {}): Promise<string> => {
  const settings = hubSettings(options)
  const cache = new RepositoryCache(settings.cacheDirectory, reference)
  const name = showReference(reference)
  const cached = await cachedModel(cache, reference)
  if (settings.offline || (cached !== undefined && isCommit(reference.revision))) {
    if (cached !== undefined) return cached
    const problem = `is not in the cache (${settings.cacheDirectory}), and HF_HUB_OFFLINE forbids to download it`
    throw new ModelError("offline", name, problem)
  }
  try {
    return await fetchModel(settings, cache, reference)
  } catch (error) {
    if (error instanceof HubUnreachable && cached !== undefined) {
      settings.onWarning(`${name}: ${settings.endpoint} cannot be reached (${error.message}); taken from the cache`)
      return cached
    }
    const missing = error instanceof HubFailure && (error.status === 404 || error.status === 401)
    const suggestions = missing ? await similarModels(settings, reference) : []
    throw explain(error, settings, { name, ...reference }, suggestions)
  }
}

/** The path of the model in the cache if all of it is there. */
const cachedModel = async (cache: RepositoryCache, { revision, file }: ModelReference): Promise<string | undefined> => {
  const commit = await cache.commit(revision)
  if (commit === undefined) return undefined
  const snapshot = cache.snapshot(commit)
  if (await isComplete(snapshot, file)) return file === undefined ? snapshot : join(snapshot, file)
  if (file !== undefined) return undefined
  const ggufs = (await readdir(snapshot).catch(() => [])).filter((found) => found.endsWith(".gguf"))
  return ggufs.length === 1 ? join(snapshot, ggufs[0]!) : undefined
}

const fetchModel = async (
  settings: HubSettings,
  cache: RepositoryCache,
  reference: ModelReference,
): Promise<string> => {
  const { repository, revision, file } = reference
  const name = showReference(reference)
  // Loaded where it is needed: most models are directories.
  const hub = await import("@huggingface/hub")
  const api = { hubUrl: settings.endpoint, fetch: hubFetch(settings) }
  const { sha: commit } = await hub.modelInfo({ name: repository, revision, additionalFields: ["sha"], ...api })
  if (!isCommit(commit)) throw new ModelError("network", name, `${settings.endpoint} names no commit for "${revision}"`)

  const remote = new Map<string, RemoteFile>()
  const folder = file === undefined ? "" : posix.dirname(file)
  const listing = { repo: { type: "model", name: repository } as const, revision: commit, ...api }
  for await (const entry of hub.listFiles({ ...listing, ...(folder !== "" && folder !== "." && { path: folder }) })) {
    const hash = entry.lfs?.oid ?? entry.oid
    if (entry.type !== "file" || hash === undefined || !/^[0-9a-f]{40}([0-9a-f]{24})?$/.test(hash)) continue
    const path = entry.path.split("/").map(encodeURIComponent).join("/")
    const url = `${settings.endpoint}/${repository}/resolve/${commit}/${path}`
    remote.set(entry.path, { url, size: entry.lfs?.size ?? entry.size, hash })
  }

  let totalBytes = 0
  let loadedBytes = 0
  const bring = async (files: ReadonlyArray<string>) => {
    for (const path of files) {
      if (!remote.has(path)) throw new ModelError("missing-file", name, `has no file ${path}`)
      totalBytes += remote.get(path)!.size
    }
    for (const path of files) {
      const one = remote.get(path)!
      if ((await fileSize(join(cache.snapshot(commit), path))) !== one.size) {
        const report = (bytes: number) =>
          settings.onProgress({ file: path, loadedBytes: loadedBytes + bytes, totalBytes })
        if ((await fileSize(cache.blob(one.hash))) !== one.size) {
          await download(settings, one, cache.blob(one.hash), report)
        }
        await cache.link(commit, path, one.hash)
      }
      loadedBytes += one.size
    }
  }
  const snapshot = cache.snapshot(commit)
  const { configuration, weights } =
    file === undefined ? modelFiles([...remote.keys()], name) : { configuration: [], weights: [file] }
  await bring([...configuration, ...(weights ?? [])])
  if (weights === undefined) await bring(await shardNames(join(snapshot, INDEX)))
  await cache.remember(revision, commit)
  return weights?.[0]?.endsWith(".gguf") === true ? join(snapshot, weights[0]) : snapshot
}

/** Models whose names are like the one that is not there; none if the hub does not say. */
const similarModels = async (settings: HubSettings, { repository }: ModelReference): Promise<ReadonlyArray<string>> => {
  const names: string[] = []
  try {
    const { listModels } = await import("@huggingface/hub")
    const query = repository.split("/")[1]!
    const options = { hubUrl: settings.endpoint, fetch: hubFetch(settings), limit: 3 }
    for await (const { name } of listModels({ search: { query }, ...options })) names.push(name)
  } catch {
    // The suggestion is a courtesy.
  }
  return names
}
