/** What the gateway says of itself to this page. */
export interface Config {
  /** The public key: what supabase-js calls the anon key. */
  key: string;
  /** Whether this is `gateway dev`, with its extra doors. */
  dev: boolean;
}

/** Reads the gateway's `/config.json`. */
export async function readConfig(): Promise<Config> {
  const response = await fetch('/config.json', { cache: 'no-store' });
  if (!response.ok) throw new Error(`The gateway answered ${response.status} for config.json.`);
  const said = (await response.json()) as Partial<Config>;
  if (!said.key) throw new Error('The gateway has no public key for browsers: set DARKROOM_ANON_KEY.');
  return { key: said.key, dev: said.dev === true };
}

/** Email and password of a link that signs in, `#sign-in=<email>:<password>`. */
export function signInOf(hash: string): { email: string; password: string } | null {
  const found = /^#sign-in=([^:]+):(.+)$/.exec(hash);
  if (!found) return null;
  try {
    return { email: decodeURIComponent(found[1] as string), password: decodeURIComponent(found[2] as string) };
  } catch {
    return null;
  }
}
