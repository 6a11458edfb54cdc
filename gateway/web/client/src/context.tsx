import type { SupabaseClient } from '@supabase/supabase-js';
import { createContext, type ReactNode, useContext } from 'react';

const Context = createContext<SupabaseClient | null>(null);

export interface DarkroomProviderProps {
  /** Made by supabase-js' createClient with the gateway's address and public key. */
  client: SupabaseClient;
  children?: ReactNode;
}

/** Gives the hooks below it their client. TanStack Query's QueryClientProvider stands around or in it. */
export function DarkroomProvider({ client, children }: DarkroomProviderProps) {
  return <Context value={client}>{children}</Context>;
}

/** The client that DarkroomProvider was given. */
export function useDarkroom(): SupabaseClient {
  const client = useContext(Context);
  if (!client) throw new Error('useDarkroom needs a DarkroomProvider above it');
  return client;
}
