import { useDarkroom } from '@darkroom/client';
import type { Session } from '@supabase/supabase-js';
import { useQueryClient } from '@tanstack/react-query';
import { useCallback, useEffect, useRef, useState } from 'react';

export type SessionState = { kind: 'loading' } | { kind: 'out'; expired: boolean } | { kind: 'in'; session: Session; signOut: () => void };

/** Who is signed in. What was read as one user is forgotten when another comes. */
export function useSession(): SessionState {
  const client = useDarkroom();
  const cache = useQueryClient();
  const [session, setSession] = useState<Session | null>();
  const [expired, setExpired] = useState(false);
  const leaving = useRef(false);
  const user = useRef<string | null>(null);

  useEffect(() => {
    const { data } = client.auth.onAuthStateChange((event, next) => {
      const id = next?.user.id ?? null;
      if (user.current !== null && user.current !== id) cache.clear();
      if (event === 'SIGNED_OUT') {
        setExpired(user.current !== null && !leaving.current);
        leaving.current = false;
      }
      user.current = id;
      setSession(next);
    });
    return () => data.subscription.unsubscribe();
  }, [client, cache]);

  const signOut = useCallback(() => {
    leaving.current = true;
    void client.auth.signOut({ scope: 'local' });
  }, [client]);

  if (session === undefined) return { kind: 'loading' };
  return session ? { kind: 'in', session, signOut } : { kind: 'out', expired };
}
