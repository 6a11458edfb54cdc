import { useEffect, useState } from 'react';

export interface Connection {
  status: 'connecting' | 'live' | 'offline';
  resumedEvents: number;
}

export type Notice = { kind: 'none' } | { kind: 'offline' } | { kind: 'back'; events: number };

const told = 6000; // milliseconds

/** What to say of the connection: that it is gone, and for a while after it came back what was caught up. The first connection is no news. */
export function useNotice({ status, resumedEvents }: Connection): Notice {
  const [lost, setLost] = useState(false);
  const [back, setBack] = useState(false);

  useEffect(() => {
    if (status === 'offline') {
      setLost(true);
      setBack(false);
    } else if (status === 'live' && lost) {
      setLost(false);
      setBack(true);
    }
  }, [status, lost]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: what still comes in is told for as long again
  useEffect(() => {
    if (!back) return;
    const timer = setTimeout(() => setBack(false), told);
    return () => clearTimeout(timer);
  }, [back, resumedEvents]);

  if (lost) return { kind: 'offline' };
  return back ? { kind: 'back', events: resumedEvents } : { kind: 'none' };
}
