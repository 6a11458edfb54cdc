import type { Project } from '@darkroom/client';
import { createContext, useContext } from 'react';
import type { CreateRequest } from '../create/request';
import type { Place } from './routes';

/** What every part of the console knows: where it is, and how to get elsewhere. */
export interface Console {
  project: Project;
  place: Place;
  /** Leads to a place. `replace`: leading back goes to where one was before this one. */
  go: (place: Place, options?: { replace?: boolean }) => void;
  /** The address of a place, for links. */
  href: (place: Place) => string;
  /** Opens the form that makes something. */
  create: (request?: CreateRequest) => void;
  /** Whether this is `gateway dev`, with its extra doors. */
  dev: boolean;
  userId: string;
}

const Context = createContext<Console | null>(null);

export const ConsoleProvider = Context;

export function useConsole(): Console {
  const console = useContext(Context);
  if (!console) throw new Error('useConsole needs the shell around it');
  return console;
}
