/** The C library of this process. */
import koffi from "koffi";

/** Kept for ever: koffi unloads a library whose handle is collected. */
let loaded: ReturnType<typeof koffi.load> | undefined;

export function libc(): ReturnType<typeof koffi.load> {
  loaded ??= koffi.load(process.platform === "darwin" ? "libSystem.B.dylib" : "libc.so.6");
  return loaded;
}
