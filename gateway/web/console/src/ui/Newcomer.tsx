import type { ReactNode } from 'react';
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
  const info = useDevInfo();
  return (
    <Empty icon={icon} title={title} testId={testId} actions={actions}>
      <p>{children}</p>
      {info.data?.curl ? <Code text={info.data.curl} label="Copy the command" /> : null}
    </Empty>
  );
}
