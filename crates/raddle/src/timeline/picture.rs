//! A timeline as a few lines of text.

use std::fmt::Write as _;

use super::Timeline;
use super::figures::seconds;

impl Timeline {
    /// A picture of `width` columns: a line for each worker, `#` where a task ran, `.` where none did.
    ///
    /// ```
    /// use raddle::{ThreadPoolExecutor, timeline::Recorder};
    ///
    /// let recorder = Recorder::start();
    /// ThreadPoolExecutor::new(1).submit(|| ()).result().unwrap();
    /// let picture = recorder.finish().picture(40);
    /// assert!(picture.contains('#') && picture.contains("ThreadPoolExecutor"));
    /// ```
    pub fn picture(&self, width: usize) -> String {
        let width = width.max(1);
        let mut rows = vec![None; self.lanes.len()];
        for task in &self.tasks {
            if let (Some(lane), Some(started)) = (task.lane, task.started) {
                let row = rows[lane].get_or_insert_with(|| vec![b'.'; width]);
                let ended = task.ended.unwrap_or(self.duration);
                let (from, to) = (self.column(started, width), self.column(ended, width));
                row[from..=to].fill(b'#');
            }
        }
        let names = rows.iter().zip(&self.lanes).filter(|(row, _)| row.is_some()).map(|(_, lane)| lane.name.len());
        let margin = names.max().unwrap_or(0);
        let mut picture = String::new();
        for (row, lane) in rows.into_iter().zip(&self.lanes) {
            let Some(row) = row else { continue };
            let _ = writeln!(picture, "{:margin$} {}", lane.name, String::from_utf8_lossy(&row));
        }
        let end = seconds(self.duration);
        let _ = writeln!(picture, "{:margin$} 0{end:>rest$}", "", rest = width.saturating_sub(1));
        picture
    }

    fn column(&self, at: std::time::Duration, width: usize) -> usize {
        let part = at.as_secs_f64() / self.duration.as_secs_f64().max(1e-9);
        ((part * width as f64) as usize).min(width - 1)
    }
}
