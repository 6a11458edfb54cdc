import type { ReactNode } from 'react';
import { useConsole } from '../app/console';
import { useDevInfo } from '../workers/dev';
import { Code, Empty } from './ui';

/** An empty place that tells what to do. In dev mode it has the line for a terminal. */
export function Newcomer({
  icon,
  title,
  children,
  actions,
  testId,
}: {
  icon: ReactNode;
  title: string;
  children: ReactNode;
  actions?: ReactNode;
  testId?: string;
}) {
  const { project } = useConsole();
  const curl = useDevInfo().data?.curl;
  // The line is of the sample's project; in another one it would show nothing.
  const here = curl?.includes(project.id) ? curl : undefined;
  return (
    <Empty icon={icon} title={title} testId={testId} actions={actions}>
      <p>{children}</p>
      {here ? (
        <>
          <p>Or paste this into a terminal: it appears here by itself.</p>
          <Code text={here} label="Copy the command" />
        </>
      ) : null}
    </Empty>
  );
}
