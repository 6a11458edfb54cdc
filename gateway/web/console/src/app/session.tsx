import { useDarkroom } from '@darkroom/client';
import type { Session } from '@supabase/supabase-js';
import { useQueryClient } from '@tanstack/react-query';
import { useCallback, useEffect, useRef, useState } from 'react';

export type SessionState = { kind: 'loading' } | { kind: 'out'; expired: boolean } | { kind: 'in'; session: Session; signOut: () => void };

// Stands while somebody is signed in: a session that is gone and whose mark is there has ended by itself.
const mark = 'darkroom.signed-in';

/** Who is signed in. What was read as one user is forgotten when another comes. */
export function useSession(): SessionState {
  const client = useDarkroom();
  const cache = useQueryClient();
  const [session, setSession] = useState<Session | null>();
  const user = useRef<string | null>(null);

  useEffect(() => {
    const { data } = client.auth.onAuthStateChange((_event, next) => {
      const id = next?.user.id ?? null;
      if (user.current !== null && user.current !== id) cache.clear();
      if (next) localStorage.setItem(mark, 'yes');
      user.current = id;
      setSession(next);
    });
    return () => data.subscription.unsubscribe();
  }, [client, cache]);

  const signOut = useCallback(() => {
    localStorage.removeItem(mark);
    void client.auth.signOut({ scope: 'local' });
  }, [client]);

  if (session === undefined) return { kind: 'loading' };
  return session ? { kind: 'in', session, signOut } : { kind: 'out', expired: localStorage.getItem(mark) !== null };
}
