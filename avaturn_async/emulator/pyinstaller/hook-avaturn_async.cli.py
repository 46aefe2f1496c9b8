"""Collect the data files of the command line."""

from PyInstaller.utils.hooks import collect_data_files

datas = collect_data_files("avaturn_async.cli", includes=["*.html"])
