//! The battery-backed hardware clock.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

/// `RTC_SET_TIME` of linux/rtc.h: `_IOW('p', 0x0a, struct rtc_time)`, nine ints.
const RTC_SET_TIME: u32 = 0x4024_700a;

/// `struct rtc_time` of linux/rtc.h.
#[repr(C)]
#[derive(Debug, PartialEq, Eq)]
struct RtcTime {
    sec: libc::c_int,
    min: libc::c_int,
    hour: libc::c_int,
    mday: libc::c_int,
    mon: libc::c_int,
    year: libc::c_int,
    // The kernel computes the last three itself.
    wday: libc::c_int,
    yday: libc::c_int,
    isdst: libc::c_int,
}

/// Sets the clock `device` (such as `/dev/rtc0`) to `seconds` since 1970, as UTC.
pub fn set(device: &Path, seconds: u64) -> io::Result<()> {
    let time = civil(seconds);
    let device = File::open(device)?;
    // SAFETY: the descriptor is open for the whole call, and `time` has the layout of the structure
    // that this request reads (size encoded in the request number, checked by a test).
    let result = unsafe { libc::ioctl(device.as_raw_fd(), RTC_SET_TIME as _, std::ptr::from_ref(&time)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Seconds since 1970 as a date of the proleptic Gregorian calendar.
fn civil(seconds: u64) -> RtcTime {
    let (days, second) = (seconds / 86_400, (seconds % 86_400) as libc::c_int);
    // Years begin on 1 March here, so that the leap day is the last of its year; eras have 400 years
    // (146,097 days), and 719,468 days lie between 0000-03-01 and 1970-01-01.
    let days = days + 719_468;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let year = days / 146_097 * 400 + year_of_era + u64::from(month >= 10);
    RtcTime {
        sec: second % 60,
        min: second / 60 % 60,
        hour: second / 3_600,
        mday: (day_of_year - (153 * month + 2) / 5 + 1) as libc::c_int,
        mon: ((month + 2) % 12) as libc::c_int,
        year: (year as libc::c_int).saturating_sub(1900),
        wday: 0,
        yday: 0,
        isdst: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_number_carries_the_size_of_the_structure() {
        assert_eq!((RTC_SET_TIME >> 16 & 0x3fff) as usize, size_of::<RtcTime>());
    }

    #[test]
    fn dates() {
        // (seconds, year - 1900, month 0-11, day, hour, minute, second)
        for (seconds, year, mon, mday, hour, min, sec) in [
            (0, 70, 0, 1, 0, 0, 0),
            (951_782_399, 100, 1, 28, 23, 59, 59),
            (951_782_400, 100, 1, 29, 0, 0, 0),
            (951_868_800, 100, 2, 1, 0, 0, 0),
            (978_307_199, 100, 11, 31, 23, 59, 59),
            (1_709_210_096, 124, 1, 29, 12, 34, 56),
            (4_107_542_400, 200, 2, 1, 0, 0, 0),
        ] {
            let expected = RtcTime { sec, min, hour, mday, mon, year, wday: 0, yday: 0, isdst: 0 };
            assert_eq!(civil(seconds), expected, "{seconds}");
        }
    }
}
